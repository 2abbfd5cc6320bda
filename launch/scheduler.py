"""Query and cancel the SLURM jobs of a run."""

import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from kd_dist.errors import UserError
from kd_dist.files import read_json

LIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "PREEMPTED"}


def submitted_jobs(run_dir: Path) -> dict[str, str]:
    """Return stage -> job id of the stages that were submitted, each as it was last."""
    path = run_dir / "submission.json"
    return read_json(path) if path.exists() else {}


def job_states(job_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return job id -> the states of its elements (one unless it is an array; none of a job that SLURM forgot).

    The queue comes first, which is never late, then the accounting for jobs that have left it.

    Raises:
        UserError: SLURM does not answer, so nobody knows.
    """
    states: dict[str, list[str]] = defaultdict(list)
    ids = ",".join(job_ids)
    if not ids or not shutil.which("squeue"):
        return states
    past, _ = _ask(["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", f"--jobs={ids}"])
    present, problem = _ask(["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", f"--jobs={ids}"])
    if problem and "Invalid job id" not in problem:  # that one it has forgotten: it is in the accounting
        raise UserError(f"SLURM does not answer (squeue: {problem}): try again later")
    for element, state in {**past, **present}.items():
        states[element.partition("_")[0]].append(state)
    return states


def summed_up(states: list[str]) -> str:
    """Return `RUNNING`, or `2 RUNNING, 1 FAILED` of the elements of an array."""
    if len(set(states)) < 2:
        return states[0] if states else ""
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items())


def live_jobs(run_dir: Path) -> dict[str, tuple[str, str]]:
    """Return stage -> (job id, state) of every stage that SLURM still holds.

    Raises:
        UserError: SLURM does not answer, so nobody knows.
    """
    jobs = submitted_jobs(run_dir)
    states = job_states(jobs.values())
    return {name: (job, summed_up(states[job])) for name, job in jobs.items() if LIVE.intersection(states[job])}


def cancel_jobs(job_ids: list[str]) -> None:
    """Cancel jobs; arrays as a whole.

    Raises:
        UserError: SLURM refuses, or does not answer.
    """
    try:
        result = subprocess.run(["scancel", *job_ids], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"scancel does not work: {error}") from error
    if result.returncode:
        raise UserError(f"scancel {' '.join(job_ids)}: {result.stderr.strip()}")


def _ask(command: list[str]) -> tuple[dict[str, str], str]:
    """Return job id -> state, and the complaint of a command that failed."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {}, str(error)
    pairs = (line.split("|", 1) for line in result.stdout.splitlines() if "|" in line)
    return {job: state.split()[0] for job, state in pairs}, result.stderr.strip() if result.returncode else ""
