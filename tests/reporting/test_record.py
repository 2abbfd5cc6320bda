"""A run folder is read as far as it has come."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from kd_dist.errors import UserError
from kd_dist.reporting.record import parameters_in, read_run, task_of_scores, teacher_directory, with_key_fields
from tests.reporting.pages import write


@pytest.mark.parametrize(
    ("name", "details", "fields"),
    [
        ("student", {}, {"model": "student"}),
        ("student@43", {}, {"model": "student", "seed": 43}),
        ("fast at speed 0.5", {"speed": 0.5}, {"model": "fast", "speed": 0.5}),
        ("fast@43 at speed 1", {"speed": 1.0}, {"model": "fast", "seed": 43, "speed": 1.0}),
        ("fast@43 at speed 1", {"speed": 1.0, "model": "other"}, {"model": "other", "speed": 1.0}),
    ],
)
def test_evaluations_of_earlier_versions_get_their_fields(name: str, details: dict, fields: dict) -> None:
    assert with_key_fields(name, details) == fields


def test_stages_and_what_feeds_them(run_dir: Path) -> None:
    run = read_run(run_dir)
    distill = next(stage for stage in run.stages if stage.name == "distill")
    assert distill.wired_to == ["prepare"]
    assert distill.state() == "complete"
    assert distill.has_teacher()
    assert run.result_stage() is distill
    assert run.state() == "2 of 3 stages complete"
    assert [stage.name for stage in run.of_kind("report", "corpus")] == ["prepare", "report"]


def test_series_hold_finite_numbers_alone(run_dir: Path) -> None:
    distill = next(stage for stage in read_run(run_dir).stages if stage.name == "distill")
    steps, losses = distill.series("train/loss")
    assert len(steps) == len(losses) == 299  # the loss of step 7 is null
    assert 7 not in steps
    assert distill.terms()[0] == "a"
    assert distill.series("nothing")[0].size == 0


def test_the_best_evaluation_decides_by_the_metric_of_the_selection(scored_run: Path) -> None:
    distill = next(stage for stage in read_run(scored_run).stages if stage.name == "distill")
    best = distill.best()
    assert best is not None
    assert (best.metric, best.step, best.value) == ("accuracy", 20, 0.86)
    assert distill.scores() == ["accuracy", "macro_f1"]


def test_shards_that_are_done_are_counted(scored_run: Path) -> None:
    stages = {stage.name: stage for stage in read_run(scored_run).stages}
    assert stages["augment"].shards() == (1, 3)
    assert stages["distill"].shards() is None


def test_weights_are_counted_by_their_headers(tmp_path: Path) -> None:
    assert parameters_in(tmp_path) is None
    save_file({"a": np.zeros((10, 5), np.float16)}, tmp_path / "model-1.safetensors")
    save_file({"b": np.zeros(7, np.float32)}, tmp_path / "model-2.safetensors")
    assert parameters_in(tmp_path) == 57
    (tmp_path / "model-2.safetensors").write_bytes(b"damaged")
    assert parameters_in(tmp_path) is None


@pytest.mark.parametrize(("score", "task"), [("micro_f1", "multi_label"), ("accuracy", "single_label"), ("loss", None)])
def test_scores_tell_the_task(score: str, task: Any) -> None:
    assert task_of_scores({score: 0.5}) == task


def test_a_teacher_that_is_nowhere_has_no_folder(run_dir: Path) -> None:
    distill, later = (stage for stage in read_run(run_dir).stages if stage.kind == "train")
    assert teacher_directory(distill) == run_dir.parents[2] / "teacher"
    assert teacher_directory(later) is None


def test_damaged_files_are_named(run_dir: Path) -> None:
    (run_dir / "results.json").write_text("[{", encoding="utf-8")
    with pytest.raises(UserError, match=r"results.json is damaged"):
        read_run(run_dir)
    write(run_dir / "results.json", [])
    assert read_run(run_dir).results == []
