"""What is checked before anything starts, and the command that continues a run."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.errors import UserError
from kd_dist.files import read_json, write_json
from kd_dist.runs.claim import claim
from kd_dist.runs.completion import complete
from kd_dist.runs.layout import open_run
from launch.launcher import note_stage
from launch.start import continuing_command, require_idle
from tests.launch.launching import DISTILL, answers, command, general_job, shown, submitted

RUN = ("--job", "tinybert_general", "--run-id", "a")


def test_run_that_is_still_queued_is_not_submitted_again(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    shown(tmp_path, *RUN, *settings)
    answers(scheduler, squeue={"102": "PENDING"})
    ended = command(tmp_path, *RUN, *settings)
    assert ended.returncode == 2
    said = (
        f"run a is still queued or running: {DISTILL} (102, PENDING); end it first (--cancel runs/tinybert_general/a)"
    )
    assert said in ended.stderr


def test_run_with_a_live_element_of_an_array_is_not_submitted_again(
    tmp_path: Path, sharded: Job, scheduler: Path
) -> None:
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    submitted(run_dir, augment="101")
    answers(scheduler, squeue={"101_0": "FAILED", "101_2": "RUNNING"})
    with pytest.raises(UserError, match=r"augment \(101, 1 FAILED, 1 RUNNING\); end it first"):
        require_idle(run_dir)


def test_run_of_a_living_launcher_is_not_started_again(run_dir: Path) -> None:
    note_stage(run_dir / DISTILL)
    with pytest.raises(UserError, match=rf"still queued or running: {DISTILL} \(process \d+ on .*\); end it first"):
        require_idle(run_dir)
    write_json(run_dir / "launcher.json", read_json(run_dir / "launcher.json") | {"started": "1"})  # it was killed
    require_idle(run_dir)


def test_run_id_of_another_configuration_is_refused(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    complete(open_run(general_job(settings), tmp_path / "runs", "a") / DISTILL, seconds=1.0)
    ended = command(tmp_path, *RUN, *settings, "train.seed=1")
    assert ended.returncode == 2
    assert f"{DISTILL}.train.seed: 42 -> 1\nchoose another --run-id" in ended.stderr
    assert not (scheduler / "sbatch.count").exists()


def test_failed_rehearsal_stops_the_submission(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    arguments = [*RUN, *settings, "--rehearse"]
    shown(tmp_path, *arguments, "--dry-run")  # rehearses nothing
    ended = command(tmp_path, *arguments)
    assert ended.returncode == 2
    assert "the rehearsal failed, see above: nothing was submitted" in ended.stderr  # the teacher has no tokenizer
    assert not (scheduler / "sbatch.count").exists()
    assert not (tmp_path / "runs").exists()
    shutil.rmtree(re.findall(r"in (\S*)/tinybert_general/rehearsal", ended.stderr)[-1])


def test_seeds_of_a_job_without_seeded_stages_are_refused(tmp_path: Path, settings: list[str]) -> None:
    ended = command(tmp_path, "--job", "tinybert_general", *settings, "--seeds", "2", "--dry-run")
    assert (ended.returncode, "has no stage that can be repeated" in ended.stderr) == (2, True)


def test_the_command_that_continues_is_the_users_own_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--job", "tinybert_general", "data.corpus=my texts/*.txt", "train.steps=7"]
    monkeypatch.setattr(sys, "orig_argv", [".venv/bin/python", "-u", "launch/slurm.py", *arguments])
    monkeypatch.setattr(sys, "argv", ["launch/slurm.py", *arguments])
    assert continuing_command(None, "20260101-120000") == (
        ".venv/bin/python -u launch/slurm.py --run-id 20260101-120000 --job tinybert_general "
        "'data.corpus=my texts/*.txt' train.steps=7"
    )
    assert continuing_command("20260101-120000", "20260101-120000") == shlex.join(sys.orig_argv)


def test_a_local_run_that_fails_ends_with_a_command_that_goes_on(tmp_path: Path, settings: list[str]) -> None:
    (tmp_path / "my site.yaml").write_text(
        "executor: local\nenvironment: {PYTHONHOME: /nothing}\n", encoding="utf-8"
    )  # no rank can start
    ended = command(tmp_path, "--job", "tinybert_general", "--cluster", "my site.yaml", *settings)
    assert ended.returncode == 1
    (again,) = re.findall(r"this command goes on from there:\n  (.*)", ended.stderr)
    words = shlex.split(again)
    (run_dir,) = (tmp_path / "runs" / "tinybert_general").iterdir()
    assert words[words.index("--run-id") + 1] == run_dir.name
    second = command(tmp_path, *words[2:])
    assert second.returncode == 1
    assert re.findall(r"this command goes on from there:\n  (.*)", second.stderr) == [again]


def test_a_run_that_another_process_has_just_begun_is_refused(tmp_path: Path, settings: list[str]) -> None:
    claim(tmp_path / "runs" / "tinybert_general" / "a")  # which has not noted a launcher yet
    ended = command(tmp_path, *RUN, "--cluster", "local", *settings)
    assert ended.returncode == 2
    assert f"error: run a is being started or run already, by process {os.getpid()} on " in ended.stderr
    assert not (tmp_path / "runs" / "tinybert_general" / "a" / "job.json").exists()
