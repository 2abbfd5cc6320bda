"""Rows of results survive stages that run at the same time, and replace their predecessors."""

import os
from pathlib import Path

from kd_dist.files import write_json
from kd_dist.runs.results import add_result
from kd_dist.runs.stage_runner import run_stage
from tests.runs.runs import written


def test_results_of_stages_that_run_at_the_same_time_all_count(texts: Path) -> None:
    run_dir = texts.parent
    add_result(run_dir, {"stage": "one", "model": "student", "split": "test"})
    before = (run_dir / "results.json").read_bytes()
    add_result(run_dir, {"stage": "two", "model": "student", "split": "test"})
    (run_dir / "results.json").write_bytes(before)  # as another stage would that had read it before
    run_stage(texts)
    assert [row["stage"] for row in written(run_dir / "results.json")] == ["one", "two"]


def test_result_replaces_the_older_one_of_the_same_model(tmp_path: Path) -> None:
    row = {"stage": "distill", "model": "student", "split": "validation"}
    for loss in (2.0, 1.0):
        add_result(tmp_path, {**row, "loss": loss})
        add_result(tmp_path, {**row, "split": "test", "loss": loss})
    assert [(row["split"], row["loss"]) for row in written(tmp_path / "results.json")] == [
        ("validation", 1.0),
        ("test", 1.0),
    ]


def test_results_are_in_the_order_of_the_job_whatever_the_clocks_say(tmp_path: Path) -> None:
    write_json(tmp_path / "job.json", {"stages": {"labelled": {}, "check": {}, "alone": {}}})
    for minutes, stage in enumerate(("check", "alone")):  # the second on a machine whose clock is behind
        add_result(tmp_path, {"stage": stage, "model": "student", "split": "test"})
        os.utime(tmp_path / stage / "results.json", (1e9 - 60 * minutes, 1e9 - 60 * minutes))
    add_result(tmp_path, {"stage": "alone", "model": "student", "split": "test"})
    assert [row["stage"] for row in written(tmp_path / "results.json")] == ["check", "alone"]
