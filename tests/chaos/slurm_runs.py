"""Runs on the private SLURM cluster: submit them, disturb them, and compare them with undisturbed ones."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kd_dist.runs.metrics import read_metrics
from tests.ranks import ROOT
from tests.slurm.cluster import PrivateCluster, eventually

ENDED = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"]
PATIENCE_S = 1200
PROFILE = (
    "partition: main\nrequest_gpus: false\nmax_cpus_per_node: 4\nwandb_mode: disabled\n"
    "environment: {OMP_NUM_THREADS: '1'}\n"
)


class SlurmRun:
    """One job in a folder of its own, always under the same path, so that runs one after another can be compared."""

    def __init__(self, slurm: PrivateCluster, folder: Path, job: str, settings: Sequence[str]) -> None:
        self.slurm, self.folder, self.job, self.settings = slurm, folder, job, list(settings)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "site.yaml").write_text(PROFILE, encoding="utf-8")

    @property
    def run_dir(self) -> Path:
        return self.folder / "runs" / self.job / "a"

    def submit(self) -> dict[str, str]:
        """Submit what is not complete, as a user does; return stage -> job id."""
        result = self.command("--job", self.job, "--run-id", "a", *self.settings)
        assert result.returncode == 0, result.stderr
        jobs = json.loads((self.run_dir / "submission.json").read_text(encoding="utf-8"))
        return {name: job for name, job in jobs.items() if f"{name}: job {job}" in result.stdout}

    def submit_without_limit(self) -> dict[str, str]:
        """Submit, and lift the time limit of all jobs."""
        jobs = self.submit()
        for job in jobs.values():
            self.slurm.run(["scontrol", "update", f"JobId={job}", "TimeLimit=60"])
        return jobs

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(ROOT / "launch" / "slurm.py"), "--cluster", "site.yaml", *arguments]
        return subprocess.run(words, cwd=self.folder, capture_output=True, text=True)

    def ended(self, job: str) -> str:
        """Return the state in which a job has ended."""
        return self.slurm.wait_for(job, ENDED, PATIENCE_S)["JobState"]

    def finish(self, jobs: dict[str, str]) -> None:
        """Wait until all jobs are completed."""
        for stage, job in jobs.items():
            assert self.ended(job) == "COMPLETED", self.log(stage)

    def finish_undisturbed(self) -> Path:
        """Run the whole job, whatever its time limit, and move it aside; return where to."""
        self.finish(self.submit_without_limit())
        return (self.folder / "runs").rename(self.folder / "undisturbed")

    def at_step(self, stage: str, step: int) -> None:
        """Wait until a stage has logged a step."""
        metrics = self.run_dir / stage / "metrics.jsonl"
        reached = lambda: metrics.exists() and any(row["global_step"] >= step for row in read_metrics(metrics))  # noqa: E731
        assert eventually(reached, PATIENCE_S), self.log(stage)

    def at_start(self, stage: str, number: int) -> None:
        """Wait until a stage was started so many times."""
        assert eventually(lambda: f", start {number}\n" in self.log(stage), PATIENCE_S), self.log(stage)

    def log(self, stage: str) -> str:
        return "\n".join(path.read_text() for path in sorted((self.run_dir / stage / "log").glob("*.out")))

    def signal_rank(self, rank: int, job: str, number: signal.Signals) -> None:
        """Send a signal to the process of a rank of a job, behind SLURM's back; to both where it runs twice."""
        wanted, found = {f"SLURM_PROCID={rank}", f"SLURM_JOB_ID={job}"}, 0
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                variables = set((folder / "environ").read_bytes().decode(errors="replace").split("\0"))
                if wanted <= variables and b"submitit" in (folder / "cmdline").read_bytes():
                    os.kill(int(folder.name), number)
                    found += 1
        assert found, f"no process of rank {rank} in job {job}"
