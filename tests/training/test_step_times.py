"""The times of real steps on this machine, as a calibration finds them."""

import time
from pathlib import Path

import pytest
import torch

from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.sections.data import DistillationData
from kd_dist.config.sections.models import Teacher
from kd_dist.config.sections.training import Train
from kd_dist.config.stages import TeacherOutputsStage
from kd_dist.files import read_json
from kd_dist.runs.layout import open_run
from kd_dist.training import step_times
from kd_dist.training.step_times import of_length, rounds
from tests.conftest import LabelledWorld
from tests.objectives.builders import stage
from tests.ranks import run_ranks


def measure(run_dir: str) -> None:
    """What the process of a calibration runs."""
    step_times.SECONDS = 0.1
    step_times.write_json(Path(run_dir) / "step_times.json", step_times.measure(Path(run_dir), time.time() - 1))


def test_steps_the_teacher_and_the_machine_are_measured(labelled: LabelledWorld, tmp_path: Path) -> None:
    trained = stage(labelled, FinetuneObjective(), train=Train(steps=2, global_batch_size=8, micro_batch_size=4))
    outputs = TeacherOutputsStage(
        teacher=Teacher(path=str(labelled.teacher)), data=DistillationData(tokens=str(labelled.tokens))
    )
    job = Job(name="small", description="", stages={"outputs": outputs, "train": trained}, result="train")
    run_dir = open_run(job, tmp_path, "a")
    run_ranks(1, "tests.training.test_step_times:measure", str(run_dir))
    found = read_json(run_dir / "step_times.json")
    assert found["device"]["kind"] == ("gpu" if torch.cuda.is_available() else "cpu")
    assert found["start_seconds"] > 1
    of_training = found["stages"]["train"]
    for points in (of_training["micro_batch"], of_training["forward"], found["stages"]["outputs"]["forward"]):
        assert [length for length, _ in points] == [8, 18, 48]
        assert all(seconds > 0 for _, seconds in points)
    assert of_training["optimizer"] > 0
    assert of_training["once"] >= 0  # what is left of the whole time, which may be less than the steps by themselves


def test_rows_become_as_long_as_is_asked_for_and_their_labels_stay() -> None:
    batch = {
        "input_ids": torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]),
        "labels": torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]),
    }
    longer = of_length(batch, 5)
    assert longer["input_ids"].tolist() == [[1, 2, 3, 1, 2], [4, 5, 4, 5, 4]]
    assert longer["attention_mask"].tolist() == [[1] * 5] * 2
    assert longer["labels"] is batch["labels"]
    assert of_length(batch, 2)["input_ids"].tolist() == [[1, 2], [4, 5]]


def test_rounds_are_few_where_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(step_times, "SECONDS", 0.0)
    assert list(rounds(lambda: calls.append(1))) == [None] * step_times.LEAST
    assert len(calls) == step_times.LEAST + step_times.WARM_UP
    monkeypatch.setattr(step_times, "SECONDS", 60.0)
    assert len(list(rounds(lambda: None))) == step_times.MOST
