"""What each rank runs: a stage or a shard, and whose turn it is to requeue."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.stages import SampleTextStage
from kd_dist.runs.completion import is_complete
from kd_dist.runs.layout import open_run
from launch import task
from launch.task import StageTask
from tests.launch.launching import CORPUS, program

SCONTROL = """case "$3" in
    job) echo "JobId=101 {preempted} Partition=low" ;;
    partition) echo "PartitionName=$4 PreemptMode={mode}" ;;
esac"""


def rank(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m launch.task ...` as the launcher starts it."""
    return subprocess.run(
        [sys.executable, "-m", "launch.task", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
        capture_output=True,
        text=True,
    )


def test_a_rank_runs_its_stage_to_the_end(tmp_path: Path) -> None:
    job = Job(name="texts", description="x", stages={"texts": SampleTextStage()}, result="texts")
    stage_dir = open_run(job, tmp_path, "a") / "texts"
    ended = rank(str(stage_dir))
    assert ended.returncode == 0, ended.stderr
    assert is_complete(stage_dir)


def test_a_mistake_of_the_user_is_one_message(run_dir: Path, corpus: Path) -> None:
    corpus.unlink()
    ended = rank(str(run_dir / CORPUS))
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr


def test_a_rank_is_asked_to_stop_when_its_launcher_is_killed(tmp_path: Path) -> None:
    waiting = textwrap.dedent("""
        import signal, sys, time
        from launch import task
        def wait(*_):
            signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1] + '/asked', 'w').close(), sys.exit()))
            print('ready', flush=True)
            time.sleep(30)
        task.run_stage = wait
        task.main()
    """)
    launcher = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]]); time.sleep(30)"
    )
    words = [sys.executable, "-c", launcher, str(tmp_path), waiting]
    with subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == ""  # the rank has ended, too
    assert (tmp_path / "asked").exists()


def test_requeued_element_runs_its_shard_again(tmp_path: Path) -> None:
    requeued = StageTask(tmp_path, 2).checkpoint().function
    assert (requeued.stage_dir, requeued.shard) == (tmp_path, 2)


@pytest.mark.parametrize(
    ("preempted", "mode", "requeues"),
    [
        ("PreemptTime=2026-01-01T12:00:00", "REQUEUE", True),
        ("PreemptTime=2026-01-01T12:00:00", "GANG,SUSPEND", False),
        ("PreemptTime=None", "REQUEUE", False),
        ("", "REQUEUE", False),
    ],
)
def test_slurm_requeues_what_it_preempts_in_such_a_partition(
    scheduler: Path, monkeypatch: pytest.MonkeyPatch, preempted: str, mode: str, requeues: bool
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "101")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    program(scheduler, "scontrol", SCONTROL.format(preempted=preempted, mode=mode))
    assert task._slurm_requeues() is requeues


def test_a_node_that_cannot_ask_slurm_requeues_by_itself(scheduler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "101")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    program(scheduler, "scontrol", "exit 1")
    assert task._slurm_requeues() is False
