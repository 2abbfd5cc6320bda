"""What a run says about itself survives kills and resumes, and never twice."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from matplotlib.figure import Figure

from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.training import Tracking
from kd_dist.errors import RunError
from kd_dist.runs.metrics import read_metrics
from kd_dist.runs.progress import Status as _Status
from kd_dist.runs.tracking import NullTracker, Tracker, log_results, make_tracker


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


def stage_dir(root: Path) -> Path:
    directory = root / "some_job" / "run-7" / "distill"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def tracker(root: Path, **settings: Any) -> Tracker:
    settings = {
        "total_steps": 100,
        "log_every_n_steps": 10,
        "settings": Tracking(),
        "config": {"a": {"b": 1}},
    } | settings
    made = make_tracker(0, stage_dir=stage_dir(root), **settings)
    assert isinstance(made, Tracker)
    return made


def wandb_records(root: Path) -> list[dict[str, Any]]:
    """What W&B's own reader finds in the segments of all processes, in the order in which they were written."""
    found = []
    for path in sorted(stage_dir(root).glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        found += map(json.loads, lines)
    return found


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind].get("item", record[kind]) for record in records if record["type"] == kind]


def steps(root: Path) -> list[int]:
    return [row["global_step"] for row in read_metrics(stage_dir(root) / "metrics.jsonl")]


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


def test_a_killed_process_keeps_its_rows(tmp_path: Path) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from kd_dist.config.sections.training import Tracking
from kd_dist.runs.tracking import make_tracker
t = make_tracker(0, stage_dir=Path({str(stage_dir(tmp_path))!r}), total_steps=9, settings=Tracking(),
                 log_every_n_steps=1, config={{}})
t.start(0)
for step in (1, 2, 3):
    t.log(step, {{"train/loss": 1.0}})
assert "torch" not in sys.modules
print("logged", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"logged\n"
    time.sleep(2)
    # A cluster kills everything at once: W&B's own process gets no time to write what it still holds.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in [*map(int, children), process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert steps(tmp_path) == [1, 2, 3]
    assert [row["global_step"] for row in of_kind(wandb_records(tmp_path), "history")] == [1, 2, 3]


def test_no_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "5ec2e7" * 7
    monkeypatch.setenv("WANDB_API_KEY", secret)
    made = tracker(tmp_path)
    made.start(0)
    made.log(1, {"train/loss": 1.0})
    made.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_wandb_that_does_not_start_or_dies_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: Any) -> None:
        raise wandb.errors.CommError("no wandb-core here")

    class Dead:
        def log(self, *_: Any, **__: Any) -> None:
            raise ConnectionResetError("Connection lost")  # what W&B raises once its own process is gone

        def define_metric(self, *_: Any, **__: Any) -> None:
            pass

    for init, said in ((fails, "did not start"), (lambda **_: Dead(), "stopped")):
        monkeypatch.setattr(wandb, "init", init)
        made = tracker(tmp_path)
        made.start(0)  # what was logged without W&B was not sent, so that it is sent now
        made.log(1, {"train/loss": 1.0})
        made.log(10, {"train/loss": 1.0})
        made.close()
        assert steps(tmp_path) == [1, 10]
        assert capsys.readouterr().err.count(f"W&B {said}") == 1


@pytest.mark.parametrize("settings", [Tracking(tags=["x" * 100]), Tracking(project="a/b")])
def test_settings_that_wandb_refuses_stop_nothing(
    tmp_path: Path, settings: Tracking, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tracker(tmp_path, settings=settings)
    made.start(0)
    made.close()
    assert "W&B did not start" in capsys.readouterr().err


@pytest.fixture
def _fresh_wandb() -> Iterator[None]:
    """W&B reads the environment once per process."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.usefixtures("_fresh_wandb")
def test_without_credentials_wandb_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: dict[str, Any] = {}

    def refuse(**settings: Any) -> None:
        chosen.update(settings)
        raise wandb.errors.CommError("enough seen")

    monkeypatch.setattr(wandb, "init", refuse)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    modes = []
    for key in (None, "a" * 40):
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)
        tracker(tmp_path).start(0)
        modes.append(chosen["mode"])
    assert modes == ["offline", "online"]


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


def test_time_left_counts_only_the_steps_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    status, now = _Status("distill", total_steps=1000, step=500), [7000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    status.update(501, None, None)
    assert status.parts()["left"] == ""
    now[0] += 20.0
    status.update(511, None, None)
    assert status.seconds_left() == pytest.approx(2.0 * 489)
    assert status.parts()["left"] == "16:18 left"


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


def test_damage_in_the_middle_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"global_step": 1}\n{"glob\n{"global_step": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl:2: "):
        read_metrics(path)
