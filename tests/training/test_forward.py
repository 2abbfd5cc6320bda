"""The forward pass gives the objective the batch and the teacher's outputs, and times the teacher alone."""

from typing import Any

import pytest
import torch

from kd_dist.models.device import own_device
from kd_dist.objectives.base import Outcome
from kd_dist.training.batches import PreparedBatch
from kd_dist.training.forward import Forward, Kept
from kd_dist.training.meters import Stopwatch

BATCH = PreparedBatch({"input_ids": torch.arange(6).reshape(2, 3)}, {"term": 6.0}, seed=0)


def total(batch: dict[str, torch.Tensor], targets: Any) -> Outcome:
    assert batch["input_ids"].device.type == own_device().type
    return Outcome({"term": batch["input_ids"].sum() - (0 if targets is None else targets)})


def test_the_teacher_sees_the_batch_and_the_objective_sees_both() -> None:
    def teacher(batch: dict[str, torch.Tensor]) -> Any:
        return batch["input_ids"].max()

    assert float(Forward(total, teacher)(BATCH, Stopwatch()).sums["term"]) == 15 - 5
    assert float(Forward(total, None)(BATCH, Stopwatch()).sums["term"]) == 15


def test_students_that_keep_its_outputs_together_run_the_teacher_once_a_batch() -> None:
    seen: list[int] = []

    def teacher(batch: dict[str, torch.Tensor]) -> Any:
        seen.append(int(batch["input_ids"].max()))
        return batch["input_ids"].max()

    kept = Kept()
    students = [Forward(total, teacher, kept) for _ in range(3)]
    for seed, last in ((7, 5), (8, 11), (7, 5)):
        batch = PreparedBatch({"input_ids": torch.arange(last + 1)}, {"term": 1.0}, seed)
        sums = [float(student(batch, Stopwatch()).sums["term"]) for student in students]
        assert sums == [last * (last + 1) / 2 - last] * 3
    assert seen == [5, 11, 5]  # that of the last batch alone is kept


@pytest.mark.skipif(torch.cuda.is_available(), reason="events of a GPU have a clock of their own")
def test_only_the_teacher_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def taking(seconds: float, result: Any) -> Any:
        now[0] += seconds
        return result

    watch = Stopwatch()
    forward = Forward(lambda batch, targets: taking(7.0, total(batch, targets)), lambda batch: taking(2.0, 1))
    forward(BATCH, watch)
    assert watch.read() == pytest.approx(2.0)
