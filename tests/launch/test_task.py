"""What each rank runs: a stage or a shard, and whose turn it is to requeue."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pytest
from submitit.core.utils import UncompletedJobError

from kd_dist.config.job import Job
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.data import DistillationData
from kd_dist.config.sections.models import Teacher
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stages import SampleTextStage, TeacherOutputsStage
from kd_dist.runs.blocks import Blocks, Tally
from kd_dist.runs.completion import is_complete
from kd_dist.runs.layout import open_run
from kd_dist.runs.tries import Tries
from launch.cluster import LAUNCHER, WARNED_AT
from launch.task import StageTask, master_port
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


def test_a_rank_whose_launcher_was_killed_before_it_began_ends_at_once(run_dir: Path) -> None:
    words = [sys.executable, "-m", "launch.task", str(run_dir / CORPUS)]
    environment = {**os.environ, LAUNCHER: "1"}  # which is not its parent
    assert subprocess.run(words, cwd=REPOSITORY, env=environment, check=False).returncode == -signal.SIGTERM


def test_requeued_element_runs_its_shard_again(tmp_path: Path) -> None:
    requeued = StageTask(tmp_path, 2).checkpoint().function
    assert (requeued.stage_dir, requeued.shard) == (tmp_path, 2)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A stage that keeps nothing of an unfinished try."""
    job = Job(name="texts", description="x", stages={"texts": SampleTextStage()}, result="texts")
    return open_run(job, tmp_path / "runs", "a") / "texts"


@pytest.fixture
def in_a_job(scheduler: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be rank 0 of a job at its time limit."""
    for name, value in {"SLURM_JOB_ID": "101", "SUBMITIT_EXECUTOR": "slurm", "RANK": "0", WARNED_AT: "0"}.items():
        monkeypatch.setenv(name, value)
    program(scheduler, "scontrol", "echo 'JobId=101 PreemptTime=None Partition=low'")
    return scheduler


def requeued(task: StageTask) -> bool:
    """Whether a warning makes the task call submitit's handler."""
    called: list[int] = []
    task._requeue(lambda number, frame: called.append(number))
    return called == [signal.SIGUSR2]


def test_a_stage_that_keeps_nothing_fails_at_its_time_limit(
    texts: Path, in_a_job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        requeued(StageTask(texts))
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        "error: stage texts is at its time limit and keeps nothing of a try that is cut short, so that another try "
        "would get no further: give it more time by texts.resources.timeout_minutes (now 10)\n"
    )
    assert not Tries(texts).verdict(3).again


def test_a_stage_in_shards_may_also_have_more_of_them(sharded: Job, tmp_path: Path, in_a_job: Path) -> None:
    task = StageTask(open_run(sharded, tmp_path / "runs", "a") / "augment", 1)
    assert "saved nothing before it" in task._too_short()
    assert (
        "by augment.resources.timeout_minutes (now 240), or less work by augment.resources.shards" in task._too_short()
    )


def test_a_stage_that_has_kept_something_goes_on_after_its_time_limit(
    sharded: Job, tmp_path: Path, in_a_job: Path
) -> None:
    task = StageTask(open_run(sharded, tmp_path / "runs", "a") / "augment", 1)
    Tries(task.stage_dir).begin()
    (task.stage_dir / "shards").mkdir()
    (task.stage_dir / "shards" / "block_00000001.parquet").touch()
    assert requeued(task)
    with pytest.raises(SystemExit):  # the next try kept nothing more
        requeued(task)


def test_a_shard_that_has_written_blocks_is_requeued_at_its_time_limit(tmp_path: Path, in_a_job: Path) -> None:
    outputs = TeacherOutputsStage(
        teacher=Teacher(path="none/such"),
        data=DistillationData(tokens=str(tmp_path)),
        resources=ShardResources(shards=2),
    )
    job = Job(name="outputs", description="x", stages={"outputs": outputs}, result="outputs")
    task = StageTask(open_run(job, tmp_path / "runs", "a") / "outputs", 1)
    Tries(task.stage_dir).begin()
    blocks = Blocks(task.stage_dir / "outputs", "x")
    blocks.folder.mkdir()
    blocks.write(1, pa.table({"key": [1]}), Tally(rows=1))
    assert requeued(task)
    with pytest.raises(SystemExit):  # the next try kept nothing more
        requeued(task)


def test_a_warning_of_something_else_requeues_any_stage(
    texts: Path, in_a_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(in_a_job, "scontrol", SCONTROL.format(preempted="PreemptTime=2026-01-01T12:00:00", mode="CANCEL"))
    assert requeued(StageTask(texts))
    program(in_a_job, "scontrol", SCONTROL.format(preempted="PreemptTime=2026-01-01T12:00:00", mode="REQUEUE"))
    assert not requeued(StageTask(texts))  # SLURM does it
    program(in_a_job, "scontrol", "exit 1")
    monkeypatch.setenv(WARNED_AT, "9999999999")
    assert requeued(StageTask(texts))
    monkeypatch.setenv("RANK", "1")
    assert not requeued(StageTask(texts))


def test_too_many_requeues_are_one_message(
    texts: Path, in_a_job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(number: int, frame: object) -> None:
        raise UncompletedJobError("Job not requeued because: timed-out too many times.")

    monkeypatch.setenv(WARNED_AT, "9999999999")
    with pytest.raises(SystemExit):
        StageTask(texts)._requeue(refuse)
    assert capsys.readouterr().err == "error: texts: Job not requeued because: timed-out too many times.\n"


def test_the_port_of_a_job_is_another_after_every_requeue() -> None:
    ports = [master_port("101", restarts) for restarts in range(12_768)]
    assert len(set(ports)) == len(ports)
    assert (min(ports), max(ports)) == (20_000, 32_767)
    assert master_port("101_1", 0) != master_port("101_2", 0)
