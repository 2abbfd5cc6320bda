"""How a run stands: SLURM's word on each stage, and the last line of its metrics."""

import json
import shutil
import subprocess
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kd_dist.config.sections.resources import ShardResources
from kd_dist.errors import UserError
from kd_dist.files import read_json
from kd_dist.runs.completion import is_complete, unfinished_shards
from kd_dist.runs.layout import read_stage

LIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "PREEMPTED"}


def show_status(run_dir: Path) -> int:
    """Print a table with one row a stage.

    Raises:
        UserError: that is not a run folder.
    """
    if not (run_dir / "job.json").is_file():
        raise UserError(f"--status {run_dir}: not a run folder (no job.json in it); runs are runs/<job>/<run_id>")
    stages = read_json(run_dir / "job.json")["stages"]
    table = Table("stage", "state", "job", "step", "loss", "samples/s", "time left", title=str(run_dir))
    jobs = _submitted(run_dir)
    states = _slurm_states(list(jobs.values()))
    for name in stages:
        if not (run_dir / name / "inputs.json").exists():  # the folder was removed; the same command makes it anew
            table.add_row(name, "REMOVED")
            continue
        job = jobs.get(name, "")
        state = "COMPLETED" if is_complete(run_dir / name) else _summed_up(states[job]) or _local_state(run_dir / name)
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
    return ", ".join(
        f"{name} ({job}, {_summed_up(states[job])})" for name, job in jobs.items() if LIVE.intersection(states[job])
    )


def _submitted(run_dir: Path) -> dict[str, str]:
    path = run_dir / "submission.json"
    return read_json(path) if path.exists() else {}


def _slurm_states(job_ids: list[str]) -> dict[str, list[str]]:
    """Job id -> the states of its elements, one unless it is an array.

    The queue comes first, which is never late, then the accounting for jobs that have left it.
    """
    states: dict[str, list[str]] = defaultdict(list)
    if not job_ids or not shutil.which("squeue"):
        return states
    ids = ",".join(job_ids)
    past, _ = _ask(["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", f"--jobs={ids}"])
    present, problem = _ask(["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", f"--jobs={ids}"])
    if problem and "Invalid job id" not in problem:  # that one it has forgotten: it is in the accounting
        raise UserError(f"SLURM does not answer (squeue: {problem}): try again later")
    for element, state in {**past, **present}.items():
        states[element.partition("_")[0]].append(state)
    return states


def _summed_up(states: list[str]) -> str:
    """`RUNNING`, or `2 RUNNING, 1 FAILED` of the elements of an array."""
    if len(set(states)) < 2:
        return states[0] if states else ""
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items())


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
    begun = (stage_dir / "metrics.jsonl").exists() or any(stage_dir.glob("shard_*.COMPLETE"))
    return "STARTED" if begun else "WAITING"


def _progress(stage_dir: Path, state: str) -> tuple[str, str, str, str]:
    stage = read_stage(stage_dir)
    if isinstance(stage.resources, ShardResources):
        shards = stage.resources.shards
        return f"{shards - len(unfinished_shards(stage_dir, shards))}/{shards} shards", "", "", ""
    rows = _last_rows(stage_dir / "metrics.jsonl")
    training = [row for row in rows if "train/loss" in row]
    if not training:
        return "", "", "", ""
    last = training[-1]
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
