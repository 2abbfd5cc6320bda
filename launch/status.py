"""How a run stands: SLURM's word on each stage, and the last line of its metrics."""

import json
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kd_dist.config import read_stage
from kd_dist.errors import UserError
from kd_dist.runs import is_complete
from kd_dist.stages import TrainStage

LIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "PREEMPTED"}


def show_status(run_dir: Path) -> int:
    """Print a table with one row a stage.

    Raises:
        UserError: that is not a run folder.
    """
    if not (run_dir / "job.json").is_file():
        raise UserError(f"--status {run_dir}: not a run folder (no job.json in it); runs are runs/<job>/<run_id>")
    stages = json.loads((run_dir / "job.json").read_text(encoding="utf-8"))["stages"]
    table = Table("stage", "state", "job", "step", "loss", "samples/s", "time left", title=str(run_dir))
    jobs = _submitted(run_dir)
    states = _slurm_states(list(jobs.values()))
    for name in stages:
        job = jobs.get(name, "")
        state = "COMPLETED" if is_complete(run_dir / name) else states.get(job) or _local_state(run_dir / name)
        table.add_row(name, state, job, *_progress(run_dir / name, state))
    Console().print(table)
    return 0


def live_jobs(run_dir: Path) -> str:
    """`stage (job id, state)` of every stage that SLURM still holds.

    Raises:
        UserError: SLURM does not answer, so nobody knows.
    """
    jobs = _submitted(run_dir)
    states = _slurm_states(list(jobs.values()))
    return ", ".join(f"{name} ({job}, {states[job]})" for name, job in jobs.items() if states.get(job) in LIVE)


def _submitted(run_dir: Path) -> dict[str, str]:
    path = run_dir / "submission.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _slurm_states(job_ids: list[str]) -> dict[str, str]:
    """Job id -> state; the queue first, which is never late, then the accounting for jobs that have left it."""
    if not job_ids or not shutil.which("squeue"):
        return {}
    ids = ",".join(job_ids)
    past, _ = _ask(["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", f"--jobs={ids}"])
    present, problem = _ask(["squeue", "--noheader", "--states=all", "--format=%i|%T", f"--jobs={ids}"])
    if problem and "Invalid job id" not in problem:  # that one it has forgotten: it is in the accounting
        raise UserError(f"SLURM does not answer (squeue: {problem}): try again later")
    return {**past, **present}


def _ask(command: list[str]) -> tuple[dict[str, str], str]:
    """Job id -> state, and what was complained about."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {}, str(error)
    pairs = (line.split("|", 1) for line in result.stdout.splitlines() if "|" in line)
    return {job: state.split()[0] for job, state in pairs}, result.stderr.strip() if result.returncode else ""


def _local_state(stage_dir: Path) -> str:
    """Without SLURM: whether the stage ever began."""
    return "STARTED" if (stage_dir / "metrics.jsonl").exists() else "WAITING"


def _progress(stage_dir: Path, state: str) -> tuple[str, str, str, str]:
    rows = _last_rows(stage_dir / "metrics.jsonl")
    training = [row for row in rows if "train/loss" in row]
    if not training:
        return "", "", "", ""
    last = training[-1]
    stage: TrainStage = read_stage(stage_dir)
    step, speed = last["global_step"], last["speed/samples_per_second"]
    total = stage.train.steps or round(stage.train.epochs * step / max(last["epoch"], 1e-9))
    left = (total - step) * stage.train.global_batch_size / speed
    shown = "" if state == "COMPLETED" else str(timedelta(seconds=round(left)))
    loss = "not finite" if last["train/loss"] is None else f"{last['train/loss']:.4f}"
    return f"{step:,}/{total:,}", loss, f"{speed:,.1f}", shown


def _last_rows(path: Path) -> list[dict[str, Any]]:
    """The rows in the last 64 KiB of metrics.jsonl."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    complete = [line for line in lines if line.startswith("{") and line.endswith("}")]
    return [json.loads(line) for line in complete]
