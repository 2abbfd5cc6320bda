"""Slow file systems and clocks that differ change nothing: such runs end as one on a good machine does."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd_dist.training.ports import free_port
from tests.chaos.compare import differences
from tests.chaos.jobs import World, settings_of
from tests.chaos.places import step_of
from tests.ranks import ROOT, environment
from tests.runs.wandb_server import stand_in

pytestmark = pytest.mark.chaos

# What a file system that is overloaded does to a process, in microseconds: syncing, changing folders, and writing.
DELAYS = {
    "fsync,fdatasync": 400_000,
    "rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir": 50_000,
    "write,pwrite64": 1_000,
}
STEPS = 20
SETTINGS = [f"train.steps={STEPS}", "engine.hang_minutes=0.5"]


def slow() -> list[str]:
    """Return the words before a command that make its file system slow."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    calls = ",".join(DELAYS)
    delays = [f"--inject={names}:delay_exit={microseconds}" for names, microseconds in DELAYS.items()]
    return ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", f"--trace={calls}", *delays]


def clock(minutes: int) -> dict[str, str]:
    """Return the variables of a process whose clock is so many minutes ahead."""
    package = importlib.util.find_spec("libfaketime")
    places = [Path(root) for root in (package.submodule_search_locations or [])] if package else []
    found = next((file for place in [*places, Path("/usr/lib")] for file in place.rglob("libfaketime.so.1")), None)
    if found is None:
        pytest.skip("libfaketime is not installed: apt-get install libfaketime, or pip install libfaketime")
    only_the_time_of_day = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    return {"LD_PRELOAD": str(found), "FAKETIME": f"{minutes:+d}m", **only_the_time_of_day}


class Runs:
    """Runs of `tinybert_general` in one place, so that paths make no difference."""

    def __init__(self, world: World, folder: Path) -> None:
        self.folder = folder
        settings = [*settings_of("tinybert_general", world), *SETTINGS]
        script = str(ROOT / "kd_dist" / "train.py")
        self.command = [sys.executable, script, "--job", "tinybert_general", "--run-id", "a", *settings]
        self.run_dir = folder / "runs" / "tinybert_general" / "a"

    def start(self, ranks: list[dict[str, str]], before: list[str]) -> list[subprocess.Popen[bytes]]:
        """Start a rank for each set of variables that are its own."""
        port = free_port()
        log = open(self.folder / "log.txt", "ab")  # noqa: SIM115 - the ranks write it
        return [
            subprocess.Popen(
                [*before, *self.command],
                cwd=self.folder, env=environment(rank, len(ranks), port) | own, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )
            for rank, own in enumerate(ranks)
        ]  # fmt: skip

    def finish(self, ranks: list[dict[str, str]], before: list[str] | None = None) -> None:
        processes = self.start(ranks, before or [])
        statuses = [process.wait(timeout=600) for process in processes]
        assert statuses == [0] * len(ranks), self.said()

    def said(self) -> str:
        return (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")

    def set_aside(self, name: str) -> Path:
        return (self.folder / "runs").rename(self.folder / name)


@pytest.fixture
def runs(world: World, tmp_path: Path) -> Runs:
    return Runs(world, tmp_path)


def test_a_slow_file_system_changes_nothing_and_is_no_hang(runs: Runs) -> None:
    before = slow()
    runs.finish([{}])
    expected = runs.set_aside("expected")
    runs.finish([{}], before)
    assert differences(expected, runs.folder / "runs") == []
    assert "hangs" not in runs.said()


def test_clocks_of_ranks_that_differ_by_minutes_change_nothing(runs: Runs) -> None:
    ahead, behind = clock(7), clock(-9)
    runs.finish([{}, {}])
    expected = runs.set_aside("expected")
    runs.finish([ahead, behind])
    assert differences(expected, runs.folder / "runs") == []


def test_a_try_that_begins_before_the_one_before_it_goes_on_from_there(runs: Runs) -> None:
    offline, ahead = {"WANDB_MODE": "offline"}, clock(10)
    runs.finish([offline])
    expected = runs.set_aside("expected")
    (process,) = runs.start([ahead | offline], [])
    while step_of(runs.run_dir / "distill")[0] < 8:
        assert process.poll() is None, runs.said()
        time.sleep(0.01)
    time.sleep(1.5)  # W&B writes every second
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    runs.finish([offline])
    assert "resumed at step" in runs.said()
    assert differences(expected, runs.folder / "runs") == []
    assert uploaded_steps(runs.run_dir) == list(range(1, STEPS + 1))


def uploaded_steps(run_dir: Path) -> list[int]:
    """Let `--sync` upload a run, and return the steps of its training rows as they arrive."""
    with stand_in() as server:
        variables = {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": "a" * 40, "WANDB_MODE": "online"}
        command = [sys.executable, str(ROOT / "launch" / "slurm.py"), "--sync", str(run_dir)]
        subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True)
        (rows,) = (rows for rows in server.rows.values() if any("train/loss" in row for row in rows))
    return [row["global_step"] for row in rows if "train/loss" in row]
