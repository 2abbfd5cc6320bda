"""Hashes remember what was seen as a set would."""

import random

from kd_dist.data.deduplication import SeenHashes


def test_seen_hashes_agree_with_a_set():
    rng = random.Random(1)
    seen, expected = SeenHashes(newest_size=50), set()
    for _ in range(60):
        batch = [str(rng.randrange(3000)) for _ in range(rng.randrange(80))]
        fresh = []
        for text in batch:
            fresh.append(text not in expected)
            expected.add(text)
        assert seen.unseen(batch) == fresh
    assert sum(map(len, seen._runs)) + len(seen._newest) == len(expected)
    assert len(seen._runs) < 8
