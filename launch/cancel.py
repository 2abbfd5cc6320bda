"""`--cancel RUN`: end every job of a run, or its launcher on this machine."""

import os
import signal
import sys
from pathlib import Path

from kd_dist.errors import UserError
from launch.launcher import Launcher, launcher_of
from launch.scheduler import cancel_jobs, live_jobs


def cancel(run_dir: Path, yes: bool) -> int:
    """End what is queued or running of a run; what its stages have saved stays.

    Args:
        run_dir: The folder of the run.
        yes: Do not ask first.

    Returns:
        0, or 1 if the user does not want to.

    Raises:
        UserError: The run is on another machine, nobody can be asked, or SLURM refuses.
    """
    launcher = launcher_of(run_dir)
    launchers = [launcher] if launcher is not None and launcher.is_alive() else []
    jobs = live_jobs(run_dir)
    named = [f"{stage} ({job}, {state})" for stage, (job, state) in jobs.items()]
    named += [f"{launcher.stage} (process {launcher.pid} on {launcher.host})" for launcher in launchers]
    if not named:
        print(f"nothing to cancel: run {run_dir.name} is neither queued nor running")
        return 0
    for launcher in launchers:
        _require_here(launcher, run_dir)
    if not yes and not _confirmed(f"cancel {', '.join(named)}?"):
        print("nothing was cancelled")
        return 1
    if jobs:
        cancel_jobs([job for job, _ in jobs.values()])
    for launcher in launchers:
        # The launcher alone: it hands the signal on to its ranks, and its process group may hold the user's script.
        os.kill(launcher.pid, signal.SIGTERM)
    print(f"cancelled: {', '.join(named)}; running stages save and stop, and the same --run-id goes on from there")
    return 0


def _require_here(launcher: Launcher, run_dir: Path) -> None:
    if not launcher.is_here():
        raise UserError(
            f"run {run_dir.name} was started on {launcher.host}: cancel it there. If that launcher is gone, remove "
            f"{run_dir / 'launcher.json'}"
        )


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UserError(f"{question} There is nobody to ask: add --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
