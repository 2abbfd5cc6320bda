"""What the tests of the launcher share: its command line, runs to look at, and programs that answer like SLURM's."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job
from kd_dist.config.paths import REPOSITORY, with_absolute_paths
from kd_dist.files import write_json
from kd_dist.runs.completion import complete
from kd_dist.runs.fingerprints import stage_fingerprint
from kd_dist.runs.layout import open_run
from launch.cluster import Cluster
from tests.loading import load_job

SCRIPT = str(REPOSITORY / "launch" / "slurm.py")
LOCAL = Cluster(executor="local")
CORPUS, DISTILL, REPORT = find_job("tinybert_general").stages
GO_ON = "python launch/slurm.py --run-id a"


def command(
    folder: Path, *arguments: str, path: Path | None = None, columns: int = 200
) -> subprocess.CompletedProcess[str]:
    """Run `python launch/slurm.py ...` in that folder; the programs in `path` come before installed ones."""
    search = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=folder,
        env={**os.environ, "PATH": search, "COLUMNS": str(columns)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def shown(folder: Path, *arguments: str, path: Path | None = None) -> str:
    """Return what a command prints that must succeed."""
    ended = command(folder, *arguments, path=path)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def general_job(settings: list[str], *more: str) -> Job:
    return with_absolute_paths(load_job("tinybert_general", [*settings, *more]))


def opened(folder: Path, settings: list[str], stage: str, *more: str) -> tuple[Job, Path]:
    """Write a run of tinybert_general in which all stages but one are complete."""
    job = general_job(settings, *more)
    run_dir = open_run(job, folder / "runs", "a")
    for name in set(job.stages) - {stage}:
        complete(run_dir / name, seconds=1.0)
    return job, run_dir


def finish_shard(stage_dir: Path, shard: int, shards: int) -> None:
    content = {"fingerprint": stage_fingerprint(stage_dir), "shards": shards, "seconds": 1.0}
    write_json(stage_dir / f"shard_{shard:05d}.COMPLETE", content)


def fake_code(folder: Path, text: str) -> Path:
    """Write code whose ranks do what `text` says."""
    (folder / "fake" / "launch").mkdir(parents=True)
    (folder / "fake" / "launch" / "__init__.py").touch()
    body = f"import os, signal, sys, time\nrank = os.environ['RANK']\n{text}\n"
    (folder / "fake" / "launch" / "task.py").write_text(body, encoding="utf-8")
    return folder / "fake"


def program(folder: Path, name: str, *lines: str) -> None:
    """Write an executable shell script."""
    (folder / name).write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    (folder / name).chmod(0o755)


def answers(scheduler: Path, squeue: Mapping[str, str] = {}, sacct: Mapping[str, str] = {}) -> None:  # noqa: B006
    """Let squeue and sacct know jobs, by id and state."""
    for name, jobs in {"squeue": squeue, "sacct": sacct}.items():
        program(scheduler, name, *(f"echo '{job}|{state}'" for job, state in jobs.items()))


def submitted(run_dir: Path, **jobs: str) -> None:
    write_json(run_dir / "submission.json", jobs)


def metrics(stage_dir: Path, *, step: int, speed: float, epoch: float = 0.5) -> None:
    """Write the last lines of metrics.jsonl, the very last of which is cut off."""
    row = {"global_step": step, "train/loss": 1.23456, "speed/samples_per_second": speed, "epoch": epoch}
    lines = [json.dumps(row), json.dumps({"global_step": step, "evaluation/loss": 9.9}), '{"cut off']
    (stage_dir / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")


def log(stage_dir: Path, name: str, text: str, seconds_ago: int = 0) -> Path:
    """Write a log that changed so many seconds ago."""
    path = stage_dir / "log" / name
    path.write_text(text, encoding="utf-8")
    changed = path.stat().st_mtime - seconds_ago
    os.utime(path, (changed, changed))
    return path
