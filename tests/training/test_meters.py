"""Time, losses and tokens between two logged steps."""

import time

import pytest
import torch

from kd_dist.training.batches import PreparedBatch
from kd_dist.training.meters import Interval, Stopwatch, memory_and_use, slowest_rank


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until a test changes it; without a GPU, whose events have a clock of their own."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return now


def test_a_stopwatch_sums_what_it_enclosed_since_it_was_read(clock: list[float]) -> None:
    watch = Stopwatch()
    for seconds in (1.0, 0.5):
        with watch:
            clock[0] += seconds
        clock[0] += 10.0  # outside
    assert watch.read() == pytest.approx(1.5)
    assert watch.read() == 0.0


def test_pauses_are_not_training_time(clock: list[float]) -> None:
    interval = Interval()
    clock[0] += 2.0
    with interval.pause():
        clock[0] += 30.0
    assert clock[0] - interval.started == pytest.approx(2.0)


def test_an_interval_counts_rows_tokens_and_padding_and_sums_terms_in_double_precision() -> None:
    interval = Interval()
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    small = torch.tensor(2.0**-30, requires_grad=True)  # lost beside 1 in float32
    for value in (torch.tensor(1.0), small):
        interval.add_batch(PreparedBatch({"attention_mask": mask}, {}, seed=0), {"hidden": value})
    assert (interval.samples, interval.tokens, interval.padded_tokens) == (4, 8, 12)
    assert float(interval.terms["hidden"]) == 1 + 2.0**-30
    assert not interval.terms["hidden"].requires_grad


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the process where there is no GPU")
def test_memory_is_that_of_the_process() -> None:
    assert 0.05 < memory_and_use()["speed/memory_gb"] < 100


def test_the_slowest_rank_is_a_multiple_of_the_mean() -> None:
    assert slowest_rank([1.0, 1.0, 4.0, 2.0]) == {"speed/slowest_rank": 2, "speed/slowest_over_mean": 2.0}
    assert slowest_rank([3.0]) == {}
