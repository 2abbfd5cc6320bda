"""Runs by name, and the list of them."""

import os
import re
from pathlib import Path

import pytest

from kd_dist.errors import UserError
from kd_dist.runs.completion import complete
from kd_dist.runs.layout import open_run
from launch.launcher import note_end
from launch.runs import find_run
from tests.launch.launching import CORPUS, DISTILL, REPORT, answers, command, general_job, shown, submitted


def rows(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line) for line in text.splitlines()]


def age(run_dir: Path, seconds: int) -> None:
    """Make a run older than it is."""
    for path in run_dir.rglob("*"):
        changed = path.stat().st_mtime - seconds
        os.utime(path, (changed, changed))


def test_runs_are_listed_newest_first(tmp_path: Path, settings: list[str], run_dir: Path) -> None:
    job = general_job(settings)
    finished, failed = (open_run(job, tmp_path / "runs", name) for name in ("finished", "failed"))
    for stage in (CORPUS, DISTILL, REPORT):
        complete(finished / stage, seconds=1.0)
    complete(failed / CORPUS, seconds=1.0)
    note_end(failed / DISTILL, 1)
    age(run_dir, 100_000)
    age(failed, 50_000)
    listed = rows(shown(tmp_path, "--status"))
    assert listed[0] == ["job", "run id", "state", "stages", "last change"]
    assert [row[:4] for row in listed[1:]] == [
        ["tinybert_general", "finished", "COMPLETED", "3/3"],
        ["tinybert_general", "failed", "FAILED", "1/3"],
        ["tinybert_general", "a", "WAITING", "0/3"],
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", row[4]) for row in listed[1:])


def test_a_line_of_metrics_is_a_change(tmp_path: Path, settings: list[str], run_dir: Path) -> None:
    other = open_run(general_job(settings), tmp_path / "runs", "b")
    age(run_dir, 1000)
    age(other, 500)
    (run_dir / DISTILL / "metrics.jsonl").touch()
    assert [row[1] for row in rows(shown(tmp_path, "--status"))[1:]] == ["a", "b"]


def test_slurm_says_which_runs_are_queued(tmp_path: Path, run_dir: Path, scheduler: Path) -> None:
    submitted(run_dir, **{CORPUS: "101", DISTILL: "102", REPORT: "103"})
    answers(scheduler, squeue={"101": "RUNNING", "102": "PENDING", "103": "PENDING"})
    assert rows(shown(tmp_path, "--status"))[1][2] == "RUNNING"


def test_the_profile_or_an_option_says_where_runs_are(tmp_path: Path, run_dir: Path) -> None:
    (tmp_path / "site.yaml").write_text(f"runs_dir: {run_dir.parent.parent}\n", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    for where in (["--cluster", "../site.yaml"], ["--runs-dir", "../runs"]):
        assert rows(shown(tmp_path / "elsewhere", "--status", *where))[1][1] == "a"
    assert "no runs in runs" in shown(tmp_path / "elsewhere", "--status")


def test_a_run_is_found_by_path_or_by_job_and_id(tmp_path: Path, run_dir: Path) -> None:
    assert find_run("--status", str(run_dir), tmp_path / "nothing") == run_dir
    assert find_run("--status", "tinybert_general/a", tmp_path / "runs") == run_dir


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--cancel a/b: not a run folder .*`--status` without a run lists them"):
        find_run("--cancel", "a/b", tmp_path)
    assert command(tmp_path, "--status", "a/b").returncode == 2
