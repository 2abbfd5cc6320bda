"""The status of a run: its table, and following it until it is over."""

import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.runs.completion import complete
from kd_dist.runs.layout import open_run
from launch.launcher import note_end, note_stage
from tests.launch.launching import (
    CORPUS,
    DISTILL,
    REPORT,
    SCRIPT,
    answers,
    command,
    finish_shard,
    log,
    metrics,
    program,
    shown,
    submitted,
)


def table(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line) for line in text.splitlines()[1:]]


def test_a_row_for_each_stage(tmp_path: Path, run_dir: Path) -> None:
    complete(run_dir / CORPUS, seconds=1.0)
    metrics(run_dir / DISTILL, step=30, speed=25.6)
    lines = shown(tmp_path, "--status", str(run_dir)).splitlines()
    assert lines == [
        str(run_dir),
        "stage    state      job  step    loss    samples/s  time left",
        f"{CORPUS:8} COMPLETED",
        f"{DISTILL:8} STARTED         30/300  1.2346  25.6       0:45:00",
        f"{REPORT:8} WAITING",
    ]


def test_the_row_of_a_failed_stage_names_its_log(tmp_path: Path, run_dir: Path) -> None:
    complete(run_dir / CORPUS, seconds=1.0)
    note_end(run_dir / DISTILL, 1)
    path = log(run_dir / DISTILL, "rank_0.txt", "error: no room\n")
    lines = shown(tmp_path, "--status", str(run_dir)).splitlines()
    assert lines[3:5] == [f"{DISTILL:8} FAILED", f"  see {path}"]


def test_jobs_and_arrays_of_slurm(tmp_path: Path, sharded: Job, scheduler: Path) -> None:
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    finish_shard(run_dir / "augment", 1, shards=3)
    submitted(run_dir, augment="101", collect="102")
    answers(scheduler, sacct={"101_1": "COMPLETED"}, squeue={"101_0": "RUNNING", "101_2": "RUNNING", "102": "PENDING"})
    assert table(shown(tmp_path, "--status", str(run_dir)))[1:] == [
        ["augment", "1 COMPLETED, 2 RUNNING", "101", "1/3 shards"],
        ["collect", "PENDING", "102"],
    ]


def test_a_run_may_be_named_by_its_job_and_id(tmp_path: Path, run_dir: Path) -> None:
    assert shown(tmp_path, "--status", "tinybert_general/a") == shown(tmp_path, "--status", str(run_dir)).replace(
        str(run_dir), str(run_dir.relative_to(tmp_path))
    )


@pytest.fixture
def followed(tmp_path: Path, run_dir: Path) -> Path:
    """A run whose two last stages run at the moment."""
    complete(run_dir / CORPUS, seconds=1.0)
    metrics(run_dir / DISTILL, step=30, speed=25.6)
    note_stage(run_dir / DISTILL)
    return run_dir


def after(seconds: float, *actions: Callable[[], object]) -> None:
    def act() -> None:
        for action in actions:
            time.sleep(seconds)
            action()

    threading.Thread(target=act, daemon=True).start()


def test_following_in_a_pipe_prints_changes_only_and_ends_with_the_run(tmp_path: Path, followed: Path) -> None:
    words = [sys.executable, SCRIPT, "--status", str(followed), "--follow"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None

        def next_states() -> list[str]:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5)]
            assert lines[0] == f"{followed}\n"
            return [line.split()[1] for line in lines[2:]]

        assert next_states() == ["COMPLETED", "RUNNING", "WAITING"]
        complete(followed / DISTILL, seconds=1.0)
        assert next_states() == ["COMPLETED", "COMPLETED", "WAITING"]
        complete(followed / REPORT, seconds=1.0)
        assert next_states() == ["COMPLETED", "COMPLETED", "COMPLETED"]
        assert process.stdout.read() == ""
    assert process.returncode == 0


def test_following_ends_when_a_stage_has_failed_and_nothing_runs(tmp_path: Path, followed: Path) -> None:
    after(0.5, lambda: note_end(followed / DISTILL, 3), (followed / "launcher.json").unlink)
    ended = command(tmp_path, "--status", str(followed), "--follow")
    assert (ended.returncode, "FAILED" in ended.stdout.splitlines()[-2]) == (1, True)


def test_following_on_a_terminal_draws_over_the_table(tmp_path: Path, followed: Path) -> None:
    after(2.0, lambda: [complete(followed / stage, seconds=1.0) for stage in (DISTILL, REPORT)])
    master, slave = os.openpty()
    words = [sys.executable, SCRIPT, "--status", str(followed), "--follow"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(words, cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    got = b""
    while select.select([master], [], [], 30)[0]:
        try:
            got += os.read(master, 65536)
        except OSError:
            break
    os.close(master)
    assert process.wait(30) == 0
    assert got.count(b"stage ") >= 2
    assert b"\x1b[1A" in got  # back to the first line
    last = [line.split() for line in got.decode().rpartition("stage ")[2].splitlines()[1:]]
    assert last == [
        [stage, "COMPLETED", *rest] for stage, *rest in ([CORPUS], [DISTILL, "30/300", "1.2346", "25.6"], [REPORT])
    ]


def test_following_survives_a_scheduler_that_does_not_answer(
    tmp_path: Path, run_dir: Path, scheduler: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from launch import states, status

    monkeypatch.setattr(states, "SECONDS_BETWEEN_QUESTIONS", 0.1)
    submitted(run_dir, **{DISTILL: "102"})
    program(
        scheduler,
        "squeue",
        'test -e $0.once && echo "102|FAILED" && exit 0',
        "touch $0.once; echo 'Socket timed out' >&2; exit 1",
    )
    assert status.follow_status(run_dir) == 1
    out = capsys.readouterr().out
    assert out.index("Socket timed out") < out.index("FAILED")
