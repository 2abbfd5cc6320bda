"""Cancelling: the jobs of SLURM, a launcher on this machine, and the question before."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kd_dist.config.paths import REPOSITORY
from kd_dist.files import read_json, write_json
from launch.launcher import note_stage
from tests.launch.launching import CORPUS, DISTILL, REPORT, SCRIPT, answers, command, fake_code, submitted


@pytest.fixture
def queued(run_dir: Path, scheduler: Path) -> Path:
    submitted(run_dir, **{CORPUS: "101", DISTILL: "102", REPORT: "103"})
    answers(scheduler, sacct={"101": "COMPLETED"}, squeue={"102": "RUNNING", "103": "PENDING"})
    return run_dir


def test_all_live_jobs_are_cancelled(tmp_path: Path, queued: Path, scheduler: Path) -> None:
    ended = command(tmp_path, "--cancel", str(queued), "--yes")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"cancelled: {DISTILL} (102, RUNNING), {REPORT} (103, PENDING); ")
    assert (scheduler / "scancel.asked").read_text() == "102 103\n"


def test_without_a_terminal_it_takes_a_yes(tmp_path: Path, queued: Path, scheduler: Path) -> None:
    ended = command(tmp_path, "--cancel", str(queued))
    assert ended.returncode == 2
    assert f"cancel {DISTILL} (102, RUNNING), {REPORT} (103, PENDING)? There is nobody to ask" in ended.stderr
    assert not (scheduler / "scancel.asked").exists()


@pytest.mark.parametrize(
    ("answer", "status", "asked"), [("y", 0, True), ("YES", 0, True), ("", 1, False), ("n", 1, False)]
)
def test_on_a_terminal_it_asks(
    tmp_path: Path, queued: Path, scheduler: Path, answer: str, status: int, asked: bool
) -> None:
    master, slave = os.openpty()
    words = [sys.executable, SCRIPT, "--cancel", str(queued)]
    process = subprocess.Popen(words, cwd=tmp_path, stdin=slave, stdout=subprocess.PIPE, text=True)
    os.close(slave)
    os.write(master, f"{answer}\n".encode())
    out, _ = process.communicate(timeout=30)
    os.close(master)
    assert "? [y/N] " in out
    assert (process.returncode, (scheduler / "scancel.asked").exists()) == (status, asked)


def test_a_launcher_here_is_asked_to_save_and_stop(tmp_path: Path, run_dir: Path) -> None:
    code = fake_code(
        tmp_path, "signal.signal(signal.SIGTERM, lambda *_: os._exit(143))\nprint('ready', flush=True); time.sleep(60)"
    )
    script = (
        "import sys; from pathlib import Path; from kd_dist.runs.layout import read_job; from launch import local\n"
        "from launch.cluster import Cluster; run_dir, code = map(Path, sys.argv[1:])\n"
        "sys.exit(local.run(read_job(run_dir), run_dir, Cluster(executor='local'), code, 'the command'))"
    )
    words = [sys.executable, "-c", script, str(run_dir), str(code)]
    process = subprocess.Popen(
        words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [f"{CORPUS}: started on 1 rank\n", "ready\n"]
    ended = command(tmp_path, "--cancel", str(run_dir), "--yes")
    assert ended.returncode == 0, ended.stderr
    assert f"cancelled: {CORPUS} (process {process.pid} on " in ended.stdout
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in err
    assert not (run_dir / "launcher.json").exists()


def test_nothing_that_runs_is_nothing_to_cancel(tmp_path: Path, run_dir: Path) -> None:
    note_stage(run_dir / DISTILL)
    write_json(run_dir / "launcher.json", read_json(run_dir / "launcher.json") | {"started": "1"})  # it was killed
    ended = command(tmp_path, "--cancel", str(run_dir), "--yes")
    assert (ended.returncode, ended.stdout) == (0, "nothing to cancel: run a is neither queued nor running\n")


def test_a_launcher_on_another_machine_is_out_of_reach(tmp_path: Path, run_dir: Path) -> None:
    note_stage(run_dir / DISTILL)
    write_json(run_dir / "launcher.json", read_json(run_dir / "launcher.json") | {"host": "node7"})
    ended = command(tmp_path, "--cancel", str(run_dir), "--yes")
    assert ended.returncode == 2
    assert "run a was started on node7: cancel it there" in ended.stderr
