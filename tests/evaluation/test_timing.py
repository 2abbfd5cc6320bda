"""Models are timed in turns on the same rows, and the first round does not count."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kd_dist.data.preprocessing import Encoding
from kd_dist.evaluation import timing
from kd_dist.evaluation.timing import ROUNDS, TEXTS_PER_TURN, some_rows, time_in_turn


class Clock:
    """A time that goes on only while a model works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[str, int]] = []


class Timed:
    """A classifier that takes so many seconds a row, and much longer at first."""

    def __init__(self, name: str, seconds: float, clock: Clock) -> None:
        self.name, self.seconds, self.clock = name, seconds, clock
        self.model = SimpleNamespace(device=torch.device("cpu"))
        self.seen: list[int] = []

    def batch(self, rows: list[Encoding]) -> list[Encoding]:
        return rows

    def run(self, batches: list[list[Encoding]]) -> None:
        rows = [row for batch in batches for row in batch]
        is_first = len(self.seen) < timing.LATENCY_ROWS
        self.seen += [row.input_ids[0] for row in rows]
        self.clock.calls.append((self.name, len(rows)))
        self.clock.now += len(rows) * self.seconds * (50 if is_first else 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_times_are_those_of_the_model_without_the_first_round(clock: Clock) -> None:
    models: list[Any] = [Timed("slow", 0.004, clock), Timed("fast", 0.001, clock)]
    rows = [Encoding([number], None, False) for number in range(80)]
    slow, fast = time_in_turn(models, [rows, rows])
    assert (slow.latency_ms, fast.latency_ms) == (pytest.approx(4), pytest.approx(1))
    assert (slow.latency_p95_ms, fast.latency_p95_ms) == (pytest.approx(4), pytest.approx(1))
    assert (slow.samples_per_second, fast.samples_per_second) == (pytest.approx(250), pytest.approx(1000))
    assert slow.device.startswith("CPU, ")


def test_models_take_turns_of_a_few_texts_on_the_same_rows(clock: Clock) -> None:
    models: list[Any] = [Timed("slow", 0.004, clock), Timed("fast", 0.001, clock)]
    rows = [Encoding([number], None, False) for number in range(80)]
    time_in_turn(models, [rows, rows])
    singles = [name for name, size in clock.calls if size == 1]
    assert singles[: 2 * TEXTS_PER_TURN] == ["slow"] * TEXTS_PER_TURN + ["fast"] * TEXTS_PER_TURN
    assert len(singles) == 2 * (1 + ROUNDS) * timing.LATENCY_ROWS
    assert models[0].seen == models[1].seen


def test_random_rows_are_the_same_every_time() -> None:
    assert some_rows(1000, 64).tolist() == some_rows(1000, 64).tolist()
    assert len(np.unique(some_rows(1000, 64))) == 64
    assert sorted(some_rows(5, 64)) == [0, 1, 2, 3, 4]
