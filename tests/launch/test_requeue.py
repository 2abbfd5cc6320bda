"""What the batch script of a job does when its ranks have failed, and what SLURM is asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission

from kd_dist.config.job import Job
from kd_dist.config.paths import REPOSITORY
from kd_dist.runs.layout import open_run
from kd_dist.runs.tries import Tries
from launch.requeue import job_facts, slurm_requeues
from launch.task import StageTask
from tests.launch.launching import program

SCONTROL = """case "$1 $3" in
    *job) echo "JobId=101 JobState={state} PreemptTime={preempted} Partition=low" ;;
    *partition) echo "PartitionName=$4 PreemptMode={mode}" ;;
    requeue*) echo "$@" >> $0.asked ;;
esac"""


@pytest.fixture
def failed(tmp_path: Path, sharded: Job, scheduler: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stage of the second element of an array, whose shard is the third; its ranks have failed."""
    stage_dir = open_run(sharded, tmp_path / "runs", "a") / "augment"
    Tries(stage_dir).begin()
    DelayedSubmission(StageTask(stage_dir, 2)).dump(stage_dir / "log" / "101_1_submitted.pkl")
    (stage_dir / "shards").mkdir()
    (stage_dir / "shards" / "block_00000002.parquet").touch()
    job = {"SLURM_JOB_ID": "102", "SLURM_ARRAY_JOB_ID": "101", "SLURM_ARRAY_TASK_ID": "1", "SUBMITIT_EXECUTOR": "slurm"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    return stage_dir


def look(scheduler: Path, stage_dir: Path, state: str = "RUNNING") -> tuple[str, str]:
    """Run what the batch script runs; return what it said, and the arguments of scontrol requeue."""
    program(scheduler, "scontrol", SCONTROL.format(state=state, preempted="None", mode="OFF"))
    command = [sys.executable, "-m", "launch.requeue", str(stage_dir / "log"), "3"]
    ended = subprocess.run(command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    asked = scheduler / "scontrol.asked"
    return ended.stderr, asked.read_text(encoding="utf-8") if asked.exists() else ""


def test_a_job_that_crashed_after_progress_goes_back_to_the_queue(failed: Path, scheduler: Path) -> None:
    said = "stage augment crashed: it is started again, 1 of at most 3 times\n"
    assert look(scheduler, failed) == (said, "requeue 101_1\n")


def test_a_mistake_of_the_user_stays_a_failure(failed: Path, scheduler: Path) -> None:
    Tries(failed, 2).note("final")
    assert look(scheduler, failed) == ("", "")


@pytest.mark.parametrize("state", ["CANCELLED", "TIMEOUT", "PENDING", "PREEMPTED"])
def test_a_job_that_did_not_end_by_itself_is_left_alone(failed: Path, scheduler: Path, state: str) -> None:
    assert look(scheduler, failed, state) == ("", "")


def test_where_slurm_does_not_answer_nothing_is_started_again(failed: Path, scheduler: Path) -> None:
    program(scheduler, "scontrol", "exit 1")
    command = [sys.executable, "-m", "launch.requeue", str(failed / "log"), "3"]
    ended = subprocess.run(command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True)
    said = "SLURM does not answer on this node, so that the job is not started again\n"
    assert (ended.returncode, ended.stderr) == (0, said)


@pytest.mark.parametrize(
    ("preempted", "mode", "requeues"),
    [
        ("2026-01-01T12:00:00", "REQUEUE", True),
        ("2026-01-01T12:00:00", "GANG,SUSPEND", False),
        ("None", "REQUEUE", False),
    ],
)
def test_slurm_requeues_what_it_preempts_in_such_a_partition(
    failed: Path, scheduler: Path, preempted: str, mode: str, requeues: bool
) -> None:
    program(scheduler, "scontrol", SCONTROL.format(state="RUNNING", preempted=preempted, mode=mode))
    assert slurm_requeues(job_facts()) is requeues
    program(scheduler, "scontrol", "exit 1")
    assert slurm_requeues(job_facts()) is False  # a node that cannot ask requeues by itself
