"""`launch/slurm.py` on a real SLURM: stages in order, preemption, requeue, and nothing lost."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from kd_dist.runs.metrics import read_metrics
from tests.conftest import TinyWorld
from tests.ranks import ROOT
from tests.slurm.cluster import PrivateCluster, eventually

pytestmark = pytest.mark.slurm
STEPS = 120


@pytest.fixture
def launcher(slurm: PrivateCluster, tiny: TinyWorld, tmp_path: Path) -> "Launcher":
    slurm.run(["scontrol", "update", "PartitionName=main", "GraceTime=5"])
    return Launcher(slurm, tiny, tmp_path)


class Launcher:
    """What a user types, and what he then sees."""

    def __init__(self, slurm: PrivateCluster, tiny: TinyWorld, root: Path) -> None:
        self.slurm, self.root = slurm, root
        self.profile = root / "site.yaml"
        self.profile.write_text(
            "partition: main\nrequest_gpus: false\nmax_cpus_per_node: 4\nwandb_mode: offline\n"
            "environment: {OMP_NUM_THREADS: '1'}\n"
        )
        self.settings = [
            f"data.corpus={tiny.corpus}",
            f"teacher.path={tiny.teacher}",
            f"student.config={tiny.student}",
            "data.max_length=48",
            "data.validation_fraction=0.05",
            f"train.steps={STEPS}",
            "train.global_batch_size=16",
            "train.micro_batch_size=4",
            "cadence.save_every_n_steps=50",
            "cadence.log_every_n_steps=5",
            "resources.timeout_minutes=30",
        ]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "launch" / "slurm.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.root)

    def start(self, run_id: str, nodes: int, ranks: int, *more: str) -> tuple[Path, dict[str, str]]:
        world = [f"resources.nodes={nodes}", f"resources.gpus_per_node={ranks}"]
        run = ["--job", "tinybert_general", "--cluster", str(self.profile), "--run-id", run_id, "--runs-dir", "runs"]
        result = self.command(*run, *self.settings, *world, *more)
        assert result.returncode == 0, result.stderr
        run_dir = self.root / "runs" / "tinybert_general" / run_id
        return run_dir, json.loads((run_dir / "submission.json").read_text())

    def finish(self, run_dir: Path, jobs: dict[str, str], timeout: float = 600) -> None:
        for stage, job in jobs.items():
            state = self.slurm.wait_for(job, ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"], timeout)
            assert state["JobState"] == "COMPLETED", self.logs(run_dir / stage)
        assert (run_dir / "export" / "model.safetensors").exists()

    @staticmethod
    def logs(stage_dir: Path) -> str:
        return "\n".join(path.read_text() for path in sorted((stage_dir / "log").glob("*.out")))


def at_step(stage_dir: Path, step: int) -> bool:
    path = stage_dir / "metrics.jsonl"
    return path.exists() and any(row["global_step"] >= step for row in read_metrics(path))


def weights(run_dir: Path) -> dict[str, object]:
    return load_file(run_dir / "distill" / "checkpoints" / f"step_{STEPS:08d}" / "weights.safetensors")


def assert_bit_identical(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)  # type: ignore[attr-defined]


def test_a_preempted_run_is_requeued_and_ends_with_the_weights_of_an_undisturbed_one(launcher: Launcher) -> None:
    slurm = launcher.slurm
    disturbed, jobs = launcher.start("disturbed", nodes=2, ranks=2)
    assert eventually(lambda: at_step(disturbed / "distill", 20), timeout=300), launcher.logs(disturbed / "distill")
    high = slurm.submit_high(1, nodes=2)
    launcher.finish(disturbed, jobs)
    assert slurm.show_job(high)["JobState"] == "COMPLETED"
    assert slurm.show_job(jobs["distill"])["Restarts"] == "1"
    log = launcher.logs(disturbed / "distill")
    assert "resumed at step" in log
    assert "rank 0 of 4, start 2" in log  # SLURM_RESTART_COUNT was 1
    assert eventually(lambda: "PREEMPTED" in _states(slurm, jobs["distill"]), timeout=20)
    assert _states(slurm, jobs["distill"])[-1] == "COMPLETED"

    undisturbed, jobs = launcher.start("undisturbed", nodes=2, ranks=2)
    launcher.finish(undisturbed, jobs)
    assert slurm.show_job(jobs["distill"])["Restarts"] == "0"
    assert_bit_identical(disturbed, undisturbed)


def _states(slurm: PrivateCluster, job: str) -> list[str]:
    return [row["State"] for row in slurm.sacct(job, duplicates=True)]


def test_a_run_that_is_warned_of_its_time_limit_and_then_crashes_is_requeued_each_time(launcher: Launcher) -> None:
    run_dir, jobs = launcher.start("disturbed", 2, 1)
    distill = run_dir / "distill"
    assert eventually(lambda: at_step(distill, 10), timeout=300), launcher.logs(distill)
    launcher.slurm.run(["scancel", "--signal=USR2", jobs["distill"]])
    assert eventually(lambda: at_step(distill, 60), timeout=300), launcher.logs(distill)
    log = launcher.logs(distill)
    assert "resumed at step" in log
    assert "crashed" not in log  # a warning is none
    os.kill(process_of_rank(1, jobs["distill"]), signal.SIGKILL)
    launcher.finish(run_dir, jobs)
    assert launcher.slurm.show_job(jobs["distill"])["Restarts"] == "2"
    log = launcher.logs(distill)
    assert re.search(r"stage distill crashed at step \d+: it is started again, 1 of at most 3 times", log), log
    assert "resumed at step 50" in log
    assert re.search(r"the last try crashed at step \d+, which has the rows \d+, .* of /", log), log

    status = launcher.command("--status", str(run_dir))
    assert status.stdout.count("COMPLETED") == 3
    again = launcher.command(
        "--job", "tinybert_general", "--cluster", str(launcher.profile), "--run-id", "disturbed", "--runs-dir", "runs",
        *launcher.settings, "resources.nodes=2",
    )  # fmt: skip
    assert again.stdout.count("complete, skipped") == 3


def test_a_rank_that_is_stuck_on_its_node_is_named_and_the_job_requeued(launcher: Launcher) -> None:
    run_dir, jobs = launcher.start("stuck", 2, 1, "engine.hang_minutes=0.2")
    distill = run_dir / "distill"
    assert eventually(lambda: at_step(distill, 10), timeout=300), launcher.logs(distill)
    os.kill(process_of_rank(1, jobs["distill"]), signal.SIGSTOP)
    launcher.finish(run_dir, jobs)
    assert launcher.slurm.show_job(jobs["distill"])["Restarts"] == "1"
    log = launcher.logs(distill)
    assert re.search(r"error: rank 0 hangs: step \d+ has taken 0.2 minutes; it is in ", log), log
    assert "rank 1: no answer: it is stopped or gone" in log
    assert re.search(r"stage distill hung at step \d+: it is started again, 1 of at most 3 times", log), log


def process_of_rank(rank: int, job: str) -> int:
    wanted = {f"SLURM_PROCID={rank}".encode(), f"SLURM_JOB_ID={job}".encode()}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if (
                wanted <= set((path / "environ").read_bytes().split(b"\0"))
                and b"submitit" in (path / "cmdline").read_bytes()
            ):
                return int(path.name)
    raise AssertionError(f"no process of rank {rank} in job {job}")


def test_a_stage_that_fails_takes_the_stages_after_it_along(launcher: Launcher, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    launcher.settings[0] = f"data.corpus={empty}"
    run_dir, jobs = launcher.start("failing", 1, 1)
    assert launcher.slurm.wait_for(jobs["corpus"], ["FAILED", "COMPLETED"])["JobState"] == "FAILED"
    assert launcher.slurm.wait_for(jobs["distill"], ["CANCELLED"])["JobState"] == "CANCELLED"
    log = launcher.logs(run_dir / "corpus")
    assert "error: no text in" in log
    assert "Traceback" not in log
    assert "crashed" not in log  # a mistake is not retried
    assert launcher.slurm.show_job(jobs["corpus"])["Restarts"] == "0"
