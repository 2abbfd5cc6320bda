"""W&B may fail, be offline or lose its process: nothing is lost, nothing is sent twice, no secret is written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import wandb

from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.training import Tracking
from tests.runs.trackers import of_kind, stage_dir, steps, tracker, wandb_records

pytestmark = pytest.mark.usefixtures("_offline")


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
