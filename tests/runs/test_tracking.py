"""What a run says about itself survives kills and resumes, and never twice."""

import inspect
import json
import time
from pathlib import Path
from typing import Any

import pytest
import wandb
from matplotlib.figure import Figure

from kd_dist.config.sections.training import Tracking
from kd_dist.runs.metrics import read_metrics
from kd_dist.runs.tracking import NullTracker, Tracker, log_results, make_tracker
from tests.runs.trackers import of_kind, stage_dir, steps, tracker, wandb_records

pytestmark = pytest.mark.usefixtures("_offline")


def test_resuming_takes_later_rows_back_and_sends_wandb_no_step_twice(tmp_path: Path) -> None:
    first = tracker(tmp_path, settings=Tracking(project="p", tags=["mine"]))
    first.start(0)
    for step in (1, 10, 20, 30):
        first.log(step, {"train/loss": float(step)})
    first.log(30, {"evaluation/loss": 0.5})
    first.close(1)
    with open(stage_dir(tmp_path) / "metrics.jsonl", "a") as file:
        file.write('{"global_step": 40, "train/lo')  # a kill in the middle of a write
    time.sleep(1.1)  # W&B names its folder by the second

    second = tracker(tmp_path)
    second.start(20)
    assert steps(tmp_path) == [1, 10, 20]
    for step in (30, 40):
        second.log(step, {"train/loss": float(step)})
    second.close()

    assert steps(tmp_path) == [1, 10, 20, 30, 40]
    records = wandb_records(tmp_path)
    rows = of_kind(records, "history")
    assert [row["global_step"] for row in rows] == [1, 10, 20, 30, 30, 40]
    assert [row["_step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert rows[4]["evaluation/loss"] == 0.5
    runs = of_kind(records, "run")
    assert len({run["run_id"] for run in runs}) == 1
    assert (runs[0]["project"], runs[0]["run_group"], runs[0]["job_type"]) == ("p", "run-7", "distill")
    assert (runs[0]["display_name"], runs[0]["tags"]) == ("run-7/distill", ["mine", "some_job"])
    assert any(record.get("step_metric") == "global_step" for record in of_kind(records, "metric"))


def test_lines_for_a_log_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    made = tracker(tmp_path, total_steps=3000)
    made.start(299)
    made.progress(300, 2.0, 50.0)
    made.log(300, {"train/loss": 1.23454, "speed/samples_per_second": 105.4})
    made.log(300, {"evaluation/loss": 9.0})
    made.message("checkpoint saved [x]")
    made.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["distill  step 300/3000  loss 1.2345  105 samples/s", "distill  checkpoint saved [x]"]


def test_numbers_that_are_not_finite_are_strict_json(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    made.start(0)
    made.log(1, {"train/loss": float("nan"), "optim/gradient_norm": float("inf"), "epoch": 0.5})
    made.close()
    (row,) = read_metrics(stage_dir(tmp_path) / "metrics.jsonl")
    assert (row["train/loss"], row["optim/gradient_norm"], row["epoch"]) == (None, None, 0.5)
    assert abs(row["time"] - time.time()) < 60


def test_first_and_last_step_are_always_due_on_every_rank(tmp_path: Path) -> None:
    for rank in (0, 3):
        made = make_tracker(
            rank, stage_dir=stage_dir(tmp_path), total_steps=25, settings=Tracking(), log_every_n_steps=10, config={}
        )
        assert [step for step in range(1, 26) if made.is_due(step)] == [1, 10, 20, 25]


def test_the_other_ranks_write_nothing(tmp_path: Path) -> None:
    directory = stage_dir(tmp_path)
    made = make_tracker(1, stage_dir=directory, total_steps=9, settings=Tracking(), log_every_n_steps=1, config={})
    made.start(0)
    made.log(1, {"train/loss": 1.0})
    made.progress(1, 1.0, 1.0)
    made.message("hello")
    made.close()
    assert not list(directory.iterdir())


def test_both_trackers_have_the_same_methods() -> None:
    def signatures(kind: type) -> dict[str, Any]:
        return {
            name: inspect.signature(method)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert signatures(Tracker) == signatures(NullTracker)


RESULTS = {
    "teacher": {"accuracy": 0.9, "split": "test", "macro_f1": float("nan")},
    "fast at speed 0.5": {"accuracy": 0.8, "split": "test", "speed": 0.5},
}


def picture(root: Path) -> Path:
    Figure(figsize=(1, 1)).savefig(root / "speed_accuracy.png")
    return root / "speed_accuracy.png"


@pytest.mark.usefixtures("_fresh_wandb")
def test_results_replace_those_of_the_same_stage_before(tmp_path: Path) -> None:
    directory = stage_dir(tmp_path)
    for accuracy in (0.8, 0.7):
        rows = RESULTS | {"fast at speed 0.5": {"accuracy": accuracy, "split": "test", "speed": 0.5}}
        log_results(directory, Tracking(tags=["mine"]), {"a": 1}, rows, [picture(tmp_path)])
        time.sleep(1.1)  # W&B names its folder by the second
    records = wandb_records(tmp_path)
    runs = of_kind(records, "run")
    assert [run["display_name"] for run in runs] == ["run-7/distill"] * 2
    assert len({run["run_id"] for run in runs}) == 1
    assert not any(run.get("resumed") for run in runs)
    first, second = of_kind(records, "history")
    assert first["_step"] == second["_step"] == 0  # of the same run: the second takes the place of the first
    assert (first["fast at speed 0.5/accuracy"], second["fast at speed 0.5/accuracy"]) == (0.8, 0.7)
    assert second["teacher/accuracy"] == 0.9
    assert "teacher/macro_f1" not in second
    assert not list(tmp_path.rglob("metrics.jsonl"))
    assert second["evaluation/speed_accuracy._type"] == "image-file"
    assert second["evaluation/models._type"] == "table-file"
    *_, segment = sorted(directory.glob("wandb/offline-run-*"))
    assert (segment / "files" / second["evaluation/speed_accuracy.path"]).exists()
    table = json.loads((segment / "files" / second["evaluation/models.path"]).read_text(encoding="utf-8"))
    assert table["columns"] == ["model", "accuracy", "split", "macro_f1", "speed"]
    assert table["data"] == [["teacher", 0.9, "test", None, None], ["fast at speed 0.5", 0.7, "test", None, 0.5]]
    staged = [item["local_path"] for one in of_kind(records, "artifact") for item in one["manifest"]["contents"]]
    assert all(Path(path).is_relative_to(directory) for path in staged)  # `wandb sync` needs the run's folder only


@pytest.mark.usefixtures("_fresh_wandb")
def test_results_without_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_results(stage_dir(tmp_path), Tracking(project="a/b"), {}, RESULTS, [])
    assert "W&B did not start, results are in results.json only: " in capsys.readouterr().err

    def dies(*_: Any, **__: Any) -> None:
        raise ConnectionResetError("Connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(wandb.Run, "log", dies)
        log_results(stage_dir(tmp_path), Tracking(), {}, RESULTS, [picture(tmp_path)])
    assert "W&B stopped, results are in results.json only: Connection lost" in capsys.readouterr().err

    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_results(stage_dir(tmp_path / "disabled"), Tracking(), {}, RESULTS, [])
    assert not list(stage_dir(tmp_path / "disabled").iterdir())
