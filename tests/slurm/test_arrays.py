"""A stage in shards on a real SLURM: one array, whose elements are requeued and submitted again on their own."""

import json
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.sections.data import DistillationData, PlainTokenData
from kd_dist.config.sections.evaluation import Evaluate, ReportOptions
from kd_dist.config.sections.models import Teacher
from kd_dist.config.sections.resources import ShardResources, TaskResources
from kd_dist.config.stages import EvaluateStage, ReportStage, TeacherOutputsStage
from kd_dist.runs.completion import is_complete
from kd_dist.runs.layout import open_run
from kd_dist.training.teacher_outputs import verify
from launch.cluster import Cluster
from launch.snapshot import snapshot
from launch.start import require_idle
from launch.submit import submit
from tests.conftest import LabelledWorld
from tests.slurm.cluster import PrivateCluster, eventually

pytestmark = pytest.mark.slurm
SHARDS = 3
CLUSTER = Cluster(partition="main", request_gpus=False, max_cpus_per_node=1, environment={"OMP_NUM_THREADS": "1"})
SLOW = """
import os, sys, time

class Slow:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "transformers" and os.environ.get("SLURM_ARRAY_TASK_ID", "1") == "1":
            time.sleep({seconds})

if os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
    sys.meta_path.insert(0, Slow)
"""
"""Makes shard 1, or a stage without shards, so slow in its first try that a test can be sure to find it at work."""

ENDED = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"]


class Run:
    """The teacher's outputs in three shards, and a report that waits for all of them."""

    def __init__(self, slurm: PrivateCluster, labelled: LabelledWorld, runs_dir: Path, cluster: Cluster) -> None:
        self.slurm, self.runs_dir, self.cluster = slurm, runs_dir, cluster
        outputs = TeacherOutputsStage(
            teacher=Teacher(path=str(labelled.teacher)),
            data=DistillationData(tokens=str(labelled.tokens)),
            resources=ShardResources(shards=SHARDS, timeout_minutes=30),
        )
        report = ReportStage(page=ReportOptions(stages=["@outputs"]))
        self.job = Job(name="array", description="x", stages={"outputs": outputs, "report": report}, result="outputs")

    def start(self) -> dict[str, str]:
        self.run_dir = open_run(self.job, self.runs_dir, "a")
        return submit(self.job, self.run_dir, self.cluster, snapshot(self.run_dir))

    def log(self, element: str) -> str:
        path = self.run_dir / "outputs" / "log" / f"{element}_0_log.out"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def ended(self, job: str) -> str:
        return self.slurm.wait_for(job, ENDED, timeout=300)["JobState"]

    def written(self) -> dict[str, int]:
        """When each shard was written."""
        return {path.name: path.stat().st_mtime_ns for path in self.run_dir.glob("outputs/outputs/part_*")}


@pytest.fixture
def run(slurm: PrivateCluster, labelled: LabelledWorld, tmp_path: Path, slow_cluster: Cluster) -> Run:
    return Run(slurm, labelled, tmp_path / "runs", slow_cluster)


@pytest.fixture
def slow_cluster(tmp_path: Path) -> Cluster:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SLOW.format(seconds=20), encoding="utf-8")
    return CLUSTER.model_copy(update={"setup": [f"export PYTHONPATH={tmp_path / 'site'}"]})


def test_only_the_shard_that_was_killed_runs_again(run: Run, labelled: LabelledWorld) -> None:
    jobs = run.start()
    elements = [f"{jobs['outputs']}_{shard}" for shard in range(SHARDS)]
    assert eventually(lambda: "shard 1, start 1" in run.log(elements[1]), timeout=120), run.log(elements[1])
    run.slurm.run(["scancel", "--signal=KILL", "--full", elements[1]])
    assert [run.ended(element) for element in elements] == ["COMPLETED", "CANCELLED", "COMPLETED"]
    assert run.ended(jobs["report"]) == "CANCELLED"  # it waited for the whole array
    before = run.written()
    assert sorted(before) == ["part_00000000"]  # there are two blocks, of training and of validation rows
    assert not is_complete(run.run_dir / "outputs")

    require_idle(run.run_dir)
    jobs = run.start()
    assert run.ended(jobs["outputs"]) == "COMPLETED"
    assert (
        run.slurm.run(["squeue", "--noheader", "--array", "--states=all", f"--jobs={jobs['outputs']}"]).count("\n") == 1
    )
    assert "shard 1, start 1" in run.log(jobs["outputs"])
    assert run.ended(jobs["report"]) == "COMPLETED"
    assert {name: at for name, at in run.written().items() if name in before} == before
    assert is_complete(run.run_dir / "outputs")
    verify(run.run_dir / "outputs" / "outputs", labelled.teacher, labelled.tokens)


def test_an_element_that_is_warned_is_requeued_alone(run: Run) -> None:
    jobs = run.start()
    elements = [f"{jobs['outputs']}_{shard}" for shard in range(SHARDS)]
    assert eventually(lambda: "shard 1, start 1" in run.log(elements[1]), timeout=120), run.log(elements[1])
    run.slurm.run(["scancel", "--signal=USR2", elements[1]])
    assert [run.ended(element) for element in elements] == ["COMPLETED"] * SHARDS
    assert run.ended(jobs["report"]) == "COMPLETED"
    assert [run.slurm.show_job(element)["Restarts"] for element in elements] == ["0", "1", "0"]
    assert "shard 1, start 2" in run.log(elements[1])
    marker = json.loads((run.run_dir / "outputs" / "shard_00001.COMPLETE").read_text(encoding="utf-8"))
    assert marker["shards"] == SHARDS


def test_a_stage_at_its_time_limit_that_keeps_nothing_fails_at_once_and_says_which_setting_is_too_small(
    slurm: PrivateCluster, labelled: LabelledWorld, tmp_path: Path, slow_cluster: Cluster
) -> None:
    """Of two minutes, every one is among the last, so that a warning is taken for that of the time limit."""
    scores = EvaluateStage(
        evaluate=Evaluate(models={"teacher": str(labelled.teacher)}, split="validation"),
        data=PlainTokenData(tokens=str(labelled.tokens)),
        resources=TaskResources(timeout_minutes=2),
    )
    report = ReportStage(page=ReportOptions(stages=["@scores"]))
    job = Job(name="scores", description="x", stages={"scores": scores, "report": report}, result="scores")
    run_dir = open_run(job, tmp_path / "runs", "a")
    jobs = submit(job, run_dir, slow_cluster, snapshot(run_dir))

    def log() -> str:
        return "".join(path.read_text(encoding="utf-8") for path in (run_dir / "scores" / "log").glob("*.out"))

    assert eventually(lambda: "rank 0 of 1, start 1" in log(), timeout=120), log()
    slurm.run(["scancel", "--signal=USR2", jobs["scores"]])
    assert slurm.wait_for(jobs["scores"], ENDED, timeout=300)["JobState"] == "FAILED", log()
    assert "error: stage scores is at its time limit and keeps nothing of a try that is cut short" in log()
    assert "scores.resources.timeout_minutes (now 2)" in log()
    assert "Traceback" not in log()
    assert slurm.show_job(jobs["scores"])["Restarts"] == "0"
    assert slurm.wait_for(jobs["report"], ENDED, timeout=300)["JobState"] == "CANCELLED"
