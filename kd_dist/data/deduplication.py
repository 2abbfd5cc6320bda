"""Deduplicate texts by their hashes."""

import numpy as np
import xxhash


class SeenHashes:
    """Remember texts by their 64-bit hashes, in 8 bytes per text, 16 while two runs merge.

    The newest hashes are in a small set. When it is full it becomes a sorted array (a run), and runs of similar size
    merge, so that n texts make about log2(n / 65,536) runs to search. Different texts with the same hash count as
    equal: among a billion texts, the probability that there is such a pair is about 3 %.
    """

    def __init__(self, newest_size: int = 65_536) -> None:
        self._newest_size = newest_size
        self._newest: set[int] = set()
        self._runs: list[np.ndarray] = []

    def unseen(self, texts: list[str]) -> list[bool]:
        """Return for every text whether it is new, compared with earlier calls and with the texts before it."""
        hashes = np.fromiter((xxhash.xxh64_intdigest(text.encode()) for text in texts), np.uint64, len(texts))
        old = np.zeros(len(texts), dtype=bool)
        for run in self._runs:
            positions = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            old |= run[positions] == hashes
        fresh = [not is_old and self._add(value) for is_old, value in zip(old.tolist(), hashes.tolist(), strict=True)]
        if len(self._newest) >= self._newest_size:
            self._settle()
        return fresh

    def _add(self, value: int) -> bool:
        if value in self._newest:
            return False
        self._newest.add(value)
        return True

    def _settle(self) -> None:
        self._runs.append(np.sort(np.fromiter(self._newest, np.uint64, len(self._newest))))
        self._newest.clear()
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            merged = np.concatenate([self._runs.pop(), self._runs.pop()])
            merged.sort(kind="stable")  # timsort: two sorted runs merge in linear time
            self._runs.append(merged)
