"""Logs of the first rank: which file that is, and following it."""

import signal
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
from launch import states
from launch.launcher import note_end, note_stage
from launch.logs import newest_log, show_logs
from tests.launch.launching import CORPUS, DISTILL, REPORT, SCRIPT, answers, command, log, program, shown, submitted


@pytest.mark.parametrize(
    ("first_rank", "others"),
    [
        ("101_0_log.out", ["101_1_log.out", "101_0_log.err", "101_submission.sh"]),
        ("101_2_0_log.out", ["101_2_1_log.out", "101_2_0_result.pkl"]),  # an element of an array
        ("rank_0.txt", ["rank_1.txt", "rank_10.txt"]),
        ("shard_00003.txt", ["shard_00003.txt.tmp"]),  # each shard is a world of its own
    ],
)
def test_the_first_rank_is_known_by_its_name(run_dir: Path, first_rank: str, others: list[str]) -> None:
    path = log(run_dir / DISTILL, first_rank, "", seconds_ago=100)
    for name in others:
        log(run_dir / DISTILL, name, "")
    assert newest_log(run_dir / DISTILL) == path


def test_the_newest_log_counts(run_dir: Path) -> None:
    assert newest_log(run_dir / DISTILL) is None
    log(run_dir / DISTILL, "rank_0.txt", "", seconds_ago=50)
    log(run_dir / DISTILL, "99_0_log.out", "", seconds_ago=100)
    assert newest_log(run_dir / DISTILL) == run_dir / DISTILL / "log" / "rank_0.txt"


def test_the_log_of_a_stage_is_printed(tmp_path: Path, run_dir: Path) -> None:
    path = log(run_dir / CORPUS, "rank_0.txt", "好\n", seconds_ago=100)
    log(run_dir / DISTILL, "rank_0.txt", "later\n")
    ended = command(tmp_path, "--logs", str(run_dir), CORPUS)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "好\n", f"==> {path}\n")


def test_without_a_stage_it_is_the_newest_log_unless_a_stage_runs(tmp_path: Path, run_dir: Path) -> None:
    log(run_dir / CORPUS, "rank_0.txt", "first\n", seconds_ago=100)
    log(run_dir / DISTILL, "rank_0.txt", "second\n")
    assert shown(tmp_path, "--logs", str(run_dir)) == "second\n"
    note_stage(run_dir / CORPUS)
    assert shown(tmp_path, "--logs", str(run_dir)) == "first\n"


def test_a_running_job_of_slurm_is_the_stage_that_runs(tmp_path: Path, sharded: Job, scheduler: Path) -> None:
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    log(run_dir / "augment", "101_0_0_log.out", "element 0\n", seconds_ago=100)
    log(run_dir / "augment", "101_2_0_log.out", "element 2\n", seconds_ago=50)
    log(run_dir / "collect", "100_0_log.out", "of another time\n")
    submitted(run_dir, augment="101", collect="102")
    answers(scheduler, squeue={"101_0": "COMPLETED", "101_2": "RUNNING", "102": "PENDING"})
    assert shown(tmp_path, "--logs", str(run_dir)) == "element 2\n"


def test_a_misspelt_stage_and_a_missing_log_are_explained(tmp_path: Path, run_dir: Path) -> None:
    ended = command(tmp_path, "--logs", str(run_dir), f"{DISTILL}l")
    assert (ended.returncode, f"did you mean `{DISTILL}`?" in ended.stderr) == (2, True)
    ended = command(tmp_path, "--logs", str(run_dir), REPORT)
    assert ended.returncode == 2
    assert f"stage {REPORT} has no log yet, it is WAITING; --follow waits for it" in ended.stderr


class Following:
    """`--logs RUN --follow` in the background."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        words = [sys.executable, SCRIPT, "--logs", *arguments, "--follow"]
        self.process = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._timer = threading.Timer(90, self.process.kill)
        self._timer.start()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=90)
        self._timer.cancel()
        return self.process.returncode, out, err


def append(path: Path, text: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


@pytest.mark.parametrize(
    ("end", "status"), [(lambda stage: complete(stage, seconds=1.0), 0), (lambda stage: note_end(stage, 3), 1)]
)
def test_following_prints_what_comes_until_the_stage_ends(
    tmp_path: Path, run_dir: Path, end: Callable[[Path], None], status: int
) -> None:
    note_stage(run_dir / DISTILL)
    path = log(run_dir / DISTILL, "rank_0.txt", "one\n")
    following = Following(tmp_path, str(run_dir))
    assert following.line() == "one\n"
    append(path, "two\n")
    assert following.line() == "two\n"
    append(path, "last words\n")
    end(run_dir / DISTILL)
    (run_dir / "launcher.json").unlink()
    assert following.end() == (status, "last words\n", f"==> {path}\n")


def test_following_waits_for_the_first_log_and_goes_on_in_a_newer_one(tmp_path: Path, run_dir: Path) -> None:
    following = Following(tmp_path, str(run_dir), DISTILL)
    time.sleep(1.0)
    first = log(run_dir / DISTILL, "101_0_log.out", "first\n", seconds_ago=10)
    assert following.line() == "first\n"
    second = log(run_dir / DISTILL, "102_0_log.out", "second\n")
    assert following.line() == "second\n"
    complete(run_dir / DISTILL, seconds=1.0)
    assert following.end() == (0, "", f"==> {first}\n==> {second}\n")


def test_following_survives_a_scheduler_that_does_not_answer(
    tmp_path: Path,
    run_dir: Path,
    scheduler: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setattr(states, "SECONDS_BETWEEN_QUESTIONS", 0.1)
    submitted(run_dir, **{DISTILL: "102"})
    log(run_dir / DISTILL, "102_0_log.out", "one\n")
    answer = 'case "$(wc -l < $0.calls)" in 1) echo "102|RUNNING";; 2) exit 1;; *) echo "102|FAILED";; esac'
    program(scheduler, "squeue", "echo call >> $0.calls", answer)
    assert show_logs(run_dir, DISTILL, follow=True) == 1
    assert capfdbinary.readouterr().out == b"one\n"


def test_ctrl_c_ends_following_without_a_complaint(tmp_path: Path, run_dir: Path) -> None:
    log(run_dir / DISTILL, "rank_0.txt", "one\n")
    following = Following(tmp_path, str(run_dir), DISTILL)
    following.line()
    following.process.send_signal(signal.SIGINT)
    status, _, err = following.end()
    assert (status, len(err.splitlines())) == (130, 1)  # where the log is
