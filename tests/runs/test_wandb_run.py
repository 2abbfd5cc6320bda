"""W&B may fail, be offline or lose its process: nothing is lost, nothing is sent twice, no secret is written."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.training import Tracking
from kd_dist.files import write_json
from kd_dist.runs import wandb_run
from kd_dist.runs.metrics import read_metrics
from tests.runs.trackers import of_kind, stage_dir, steps, tracker, wandb_records
from tests.runs.wandb_server import StandIn, stand_in

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
        dir = str(tmp_path / "files")

        def log(self, *_: Any, **__: Any) -> None:
            raise ConnectionResetError("Connection lost")  # what W&B raises once its own process is gone

        def define_metric(self, *_: Any, **__: Any) -> None:
            pass

        def finish(self, **_: Any) -> None:
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
    chosen: list[str] = []

    def refuse(**settings: Any) -> None:
        chosen.append(settings["mode"])
        raise wandb.errors.CommError("enough seen")

    monkeypatch.setattr(wandb, "init", refuse)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for key in (None, "a" * 40):
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)
        tracker(tmp_path).start(0)
    assert chosen == ["offline", "offline", "online", "offline"]  # the second of each is the one without a server


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, _fresh_wandb: None) -> pytest.MonkeyPatch:
    """W&B with a key, and little patience."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setattr(wandb_run, "WANDB_START_SECONDS", 2.0)
    monkeypatch.setattr(wandb_run, "WANDB_FINISH_SECONDS", 2.0)
    return monkeypatch


def run_to(root: Path, last: int, *, first: int = 1, before: Callable[[int], None] = lambda step: None) -> float:
    """Log some steps, and return the longest time that one of them took."""
    made, longest = tracker(root), 0.0
    made.start(first - 1)
    for step in range(first, last + 1):
        before(step)
        started = time.monotonic()
        made.log(step, {"train/loss": 1.0 / step})
        longest = max(longest, time.monotonic() - started)
    made.close()
    return longest


def uploaded(root: Path, server: StandIn) -> list[int]:
    """Let `--sync` upload the run, and return the steps that have arrived."""
    write_json(stage_dir(root).parent / "job.json", {})
    environment = {**os.environ, "WANDB_BASE_URL": server.address, "WANDB_API_KEY": "a" * 40}
    command = [sys.executable, str(REPOSITORY / "launch" / "slurm.py"), "--sync", str(stage_dir(root).parent)]
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [path.name for path in root.iterdir()] == ["some_job"]
    (rows,) = server.rows.values()
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    return [row["global_step"] for row in rows]


def test_a_server_out_of_reach_costs_seconds_and_the_rows_are_uploaded_later(
    tmp_path: Path, online: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    online.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    started = time.monotonic()
    run_to(tmp_path, 5)
    assert time.monotonic() - started < 60
    assert "W&B is offline, `launch/slurm.py --sync " in capsys.readouterr().err
    time.sleep(1.1)  # W&B names its folder by the second
    run_to(tmp_path, 8, first=4)  # a requeue, which takes steps 4 and 5 again
    assert steps(tmp_path) == list(range(1, 9))
    with stand_in() as server:
        assert uploaded(tmp_path, server) == list(range(1, 9))


def test_segments_are_uploaded_in_their_order_whatever_the_clocks_said(tmp_path: Path) -> None:
    for name in ("offline-run-20260101_120500-a", "offline-run-20260101_120000-a", "offline-run-20250101_120000-a"):
        (stage_dir(tmp_path) / "wandb" / name).mkdir(parents=True)
    online = stage_dir(tmp_path) / "wandb" / "run-20260101_120200-a"
    online.mkdir()
    written = ["offline-run-20260101_120500-a", "run-20260101_120200-a", "offline-run-20260101_120000-a"]
    write_json(stage_dir(tmp_path) / "wandb.json", {"segments": written})
    found = [folder.name for folder in wandb_run.unsent_segments(stage_dir(tmp_path))]
    assert found == ["offline-run-20250101_120000-a", written[0], written[2]]  # the first is of an earlier version
    (online / wandb_run.UNSENT).touch()
    assert [folder.name for folder in wandb_run.unsent_segments(stage_dir(tmp_path))][1:] == written


def test_the_starts_of_a_stage_are_counted(tmp_path: Path) -> None:
    for first in (1, 3, 2):  # the second start resumes from step 2, and the third from step 1
        run_to(tmp_path, first + 1, first=first)
    assert [row["starts"] for row in read_metrics(stage_dir(tmp_path) / "metrics.jsonl")] == [1, 3, 3]


def test_a_key_that_is_refused_leaves_rows_to_be_uploaded(
    tmp_path: Path, online: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with stand_in() as server:
        server.status = 401
        online.setenv("WANDB_BASE_URL", server.address)
        run_to(tmp_path, 3)
        said = capsys.readouterr().err
        assert "W&B is offline" in said
        assert "401" in said
        assert steps(tmp_path) == [1, 2, 3]
        server.status = 200
        assert uploaded(tmp_path, server) == [1, 2, 3]


def test_a_network_that_is_lost_stops_nothing_and_the_rest_is_uploaded(
    tmp_path: Path, online: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with stand_in() as lost:
        online.setenv("WANDB_BASE_URL", lost.address)
        longest = run_to(tmp_path, 40, before=lambda step: lost.silent.set() if step == 5 else None)
    assert longest < 5
    assert steps(tmp_path) == list(range(1, 41))
    assert "W&B could not upload all in time, `launch/slurm.py --sync " in capsys.readouterr().err
    with stand_in() as server:
        assert uploaded(tmp_path, server) == list(range(1, 41))


@pytest.mark.parametrize(("most_waiting", "said"), [(0, "it does not answer"), (500, "it takes no rows any more")])
def test_a_wandb_that_hangs_is_waited_for_only_at_the_end(tmp_path: Path, most_waiting: int, said: str) -> None:
    script = f"""
import os, signal, sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from kd_dist.config.sections.training import Tracking
from kd_dist.runs import wandb_run
from kd_dist.runs.metrics import read_metrics
from kd_dist.runs.tracking import make_tracker
wandb_run.WANDB_FINISH_SECONDS = wandb_run.SECONDS_TO_HAND_OVER = 1.0
t = make_tracker(0, stage_dir=Path({str(stage_dir(tmp_path))!r}), total_steps=9, settings=Tracking(),
                 log_every_n_steps=1, config={{}})
t.start(0)
children = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
(core,) = (pid for pid in children if Path("/proc", pid, "comm").read_text().strip() == "wandb-core")
os.kill(int(core), signal.SIGSTOP)
started = time.monotonic()
if {most_waiting}:
    wandb_run.MOST_WAITING_ROWS = {most_waiting}
for step in range(1, 3001):  # more than a socket holds
    t.log(step, {{f"train/{{name}}": 1.0 for name in range(20)}})
logged = time.monotonic()
t.close()
print(logged - started, time.monotonic() - logged)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, timeout=120, check=True
    )
    logging, closing = map(float, ended.stdout.split())
    assert logging < 20
    assert closing < 20
    assert steps(tmp_path) == list(range(1, 3001))
    assert ended.stderr.count(f"W&B stopped, metrics go to metrics.jsonl only: {said}") == 1


@pytest.mark.parametrize("room", ["4k", "32k"])
def test_a_full_disk_of_wandb_stops_nothing_and_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], room: str
) -> None:
    place = stage_dir(tmp_path) / "wandb"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here (it takes root)")
    try:
        run_to(tmp_path, 500)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
    assert steps(tmp_path) == list(range(1, 501))
    said = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
    assert len(said) == 1
    assert f"W&B can no longer write {place}/offline-run-" in said[0]
    assert said[0].endswith("(No space left on device), metrics go to metrics.jsonl only")


def test_a_disk_that_fills_up_is_noticed_while_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wandb_run, "SECONDS_BETWEEN_LOOKS", -1.0)
    made = tracker(tmp_path)
    made.start(0)
    (file,) = stage_dir(tmp_path).glob("wandb/offline-run-*/*.wandb")
    os.truncate(file, 1 << 20)  # a file that is longer than all that W&B has written does not grow
    for step in range(1, 4):
        made.log(step, {"train/loss": 1.0})
    assert capsys.readouterr().err.count(f"W&B can no longer write {file} (now there is room)") == 1
    made.close()
    assert "W&B" not in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "disabled"), ("WANDB_DISABLED", "true")])
def test_wandb_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv(name, value)
    run_to(tmp_path, 3)
    assert steps(tmp_path) == [1, 2, 3]
    assert not (stage_dir(tmp_path) / "wandb").exists()


def test_students_of_one_process_have_runs_of_their_own(tmp_path: Path) -> None:
    trackers = [tracker(tmp_path / name) for name in "ab"]
    for each in trackers:
        each.start(0)
    for step in (1, 2):
        for number, each in enumerate(trackers):
            each.log(step, {"train/loss": 10.0 * number + step})
    for each in trackers:
        each.close()
    rows = [of_kind(wandb_records(tmp_path / name), "history") for name in "ab"]
    assert [[row["train/loss"] for row in of_run] for of_run in rows] == [[1.0, 2.0], [11.0, 12.0]]
