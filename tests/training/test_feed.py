"""The rows of a step come in order, whatever is prepared ahead, with the counts of the global batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.training import distributed
from kd_dist.training.batches import BatchPlan
from kd_dist.training.feed import Feed
from tests.conftest import TinyWorld
from tests.ranks import run_ranks


class Tokens:
    """An objective that counts tokens, and one term that no row has."""

    def prepare(self, batch: dict[str, Any], seed: int) -> dict[str, Any]:
        return batch

    def counts(self, batch: dict[str, Any]) -> dict[str, float]:
        return {"tokens": float(batch["attention_mask"].sum()), "nothing": 0.0}


def plan(lengths: np.ndarray) -> BatchPlan:
    return BatchPlan(lengths, global_batch_size=8, micro_batch_size=2, bucket_steps=4, seed=1)


def feed_all(tokens: str, first: int, last: int) -> list[dict[str, float]]:
    """The counts of each step, and this rank's own tokens of it."""
    import torch.distributed

    distributed.set_environment_defaults()
    torch.distributed.init_process_group("gloo")
    rows = TokenRows(Path(tokens), "train", 0)
    feed: Any = Feed(rows, plan(rows.lengths), Tokens())
    found = []
    for step in feed.steps(first, last):
        own = sum(batch.counts["tokens"] for batch in step.micro_batches)
        found.append(step.counts() | {"own": own, "batches": len(step.micro_batches)})
    assert (feed.read_wait() > 0) == bool(found)
    assert feed.read_wait() == 0
    feed.close()
    return found


@pytest.mark.parametrize(("ranks", "first", "last"), [(1, 1, 6), (2, 3, 4), (2, 4, 4), (1, 5, 4)])
def test_each_step_has_its_rows_and_the_counts_of_all_ranks(tiny: TinyWorld, ranks: int, first: int, last: int) -> None:
    found = run_ranks(ranks, "tests.training.test_feed:feed_all", str(tiny.tokens), first, last)
    lengths = PreparedRows(tiny.tokens).lengths("train")
    expected = plan(lengths)
    steps = range(first, last + 1)
    assert [step["tokens"] for step in found] == [lengths[expected.rows(step)].sum() for step in steps]
    assert [step["nothing"] for step in found] == [1.0] * len(steps)  # so that a sum of 0 is divided by something
    own = [[lengths[batch.rows].sum() for batch in expected.micro_batches(step, 0, ranks)] for step in steps]
    assert [step["own"] for step in found] == [sum(tokens) for tokens in own]
    assert [step["batches"] for step in found] == [4 // ranks] * len(steps)
