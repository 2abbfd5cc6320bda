"""`--calibrate`: what is run, and that a later plan uses what was found."""

import json
from pathlib import Path

import pytest

from kd_dist.config.jobs import find_job
from kd_dist.config.sections.training import Train
from kd_dist.errors import UserError
from kd_dist.planning.checks import load_checked_job
from kd_dist.planning.step_times import folder
from kd_dist.runs.machine import Gpu
from launch.calibration import reduced_to_training
from tests.conftest import LabelledWorld
from tests.launch.launching import command, shown


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_training_and_what_it_needs_runs_with_its_own_micro_batches() -> None:
    small = reduced_to_training(find_job("tinybert_task"), None)
    assert list(small.stages) == [
        "labelled",
        "unlabelled",
        "perturbed",
        "check",
        "outputs",
        "layers",
        "distill",
        "alone",
    ]
    assert small.stages["layers"].train == Train(
        steps=2, epochs=4, min_steps=400, global_batch_size=16, micro_batch_size=8
    )
    on_gpu = reduced_to_training(find_job("tinybert_task"), Gpu("A100", 40.0))  # all rows of a step at once
    assert on_gpu.stages["layers"].train.micro_batch_size == 32
    with pytest.raises(UserError, match="--calibrate: `cut_vocabulary` has no training stage to time"):
        reduced_to_training(find_job("cut_vocabulary"), None)


def test_a_plan_after_a_calibration_has_measured_times(labelled: LabelledWorld, tmp_path: Path) -> None:
    files = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    own = [f"teacher.path={labelled.teacher}", f"student.config={labelled.student}", "data.max_length=48"]
    arguments = ["--job", "tinybert_task", "--cluster", "local", *files, *own]
    assert "times are estimates" in shown(tmp_path, *arguments, "--plan")
    ended = command(tmp_path, *arguments, "--calibrate")
    assert ended.returncode == 0, ended.stderr
    assert "for every later --plan on such a device" in ended.stdout
    (path,) = folder().iterdir()
    records = json.loads(path.read_text(encoding="utf-8"))["records"]
    assert [record["work"]["objective"] for record in records] == ["teacher_outputs", "soft_labels", "finetune"]
    text = shown(tmp_path, *arguments, "--plan")
    assert "times measured on" in text
    assert "by operations from other" not in text
    load_checked_job("tinybert_task", [*files, *own])  # the settings are as they were


def test_a_stage_that_fails_says_why_and_nothing_is_kept(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "train.tsv").write_text("sport\t好\nsport\t好\n", encoding="utf-8")
    arguments = [f"data.train={tmp_path / 'train.tsv'}", f"encoder.path={labelled.teacher}", "data.max_length=48"]
    ended = command(tmp_path, "--job", "finetune", "--cluster", "local", *arguments, "--calibrate")
    assert ended.returncode == 1
    assert "error: the calibration failed, see above" in ended.stderr
    assert list(folder().glob("*")) == []
    assert list(tmp_path.glob("kd_dist_calibration_*"))  # to be looked at
