"""`--job NAME`: check a job, write its run folder, and put its stages on SLURM or on this machine."""

import argparse
import shlex
import sys
from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job
from kd_dist.config.paths import with_absolute_paths
from kd_dist.config.seeds import with_seeds
from kd_dist.errors import UserError
from kd_dist.planning.checks import load_checked_job
from kd_dist.planning.hub import with_fetched_models
from kd_dist.runs.claim import claim
from kd_dist.runs.layout import default_run_id, open_run, run_folder
from launch.cluster import Cluster, load_cluster
from launch.launcher import launcher_of
from launch.plan import print_notes, print_plan
from launch.scheduler import live_jobs
from launch.snapshot import snapshot


def start(options: argparse.Namespace) -> int:
    """Start a job, or show what it would do.

    Args:
        options: The command line, as `launch.arguments` parses it.

    Raises:
        UserError: A setting or the profile is wrong, the run still runs, or SLURM refuses a stage.
    """
    cluster = load_cluster(options.cluster)
    plan_only = options.dry_run or options.plan
    one_seed = load_checked_job(options.job, options.overrides, options.config, plan_only=plan_only)
    job = with_seeds(one_seed, options.seeds)
    if options.plan:
        from launch.costs import print_costs

        return print_costs(job, options.rows, cluster)
    if options.calibrate:
        from launch.calibration import calibrate

        return calibrate(with_fetched_models(one_seed), cluster)
    runs_dir = options.runs_dir or Path(cluster.runs_dir or "runs")
    run_id = default_run_id() if options.run_id is None else options.run_id
    run_dir = run_folder(runs_dir, job.name, run_id)
    if options.dry_run:
        defaults = with_absolute_paths(find_job(options.job))
        return print_plan(job, defaults, run_dir, cluster, options.verbose)
    if cluster.executor == "slurm":
        from launch.submit import require_slurm

        require_slurm()
    require_idle(run_dir)
    if options.rehearse:
        from launch.rehearsal import rehearse

        rehearse(with_fetched_models(one_seed))
    job = with_fetched_models(job)
    claim(run_dir)
    require_idle(run_dir)  # another launcher may have come and gone meanwhile
    return launch(job, open_run(job, runs_dir, run_id), cluster, continuing_command(options.run_id, run_id))


def require_idle(run_dir: Path) -> None:
    """Raise a UserError while SLURM or a launcher holds stages of this run: two writers would spoil it."""
    running = [f"{stage} ({job}, {state})" for stage, (job, state) in live_jobs(run_dir).items()]
    launcher = launcher_of(run_dir)
    if launcher is not None and launcher.is_alive():
        running.append(f"{launcher.stage} (process {launcher.pid} on {launcher.host})")
    if running:
        raise UserError(
            f"run {run_dir.name} is still queued or running: {', '.join(running)}; end it first "
            f"(--cancel {shlex.quote(str(run_dir))}), or let it go on"
        )


def continuing_command(given_run_id: str | None, run_id: str) -> str:
    """Return this process's command line with the run id that continues the run, quoted for a shell."""
    words, arguments = sys.orig_argv, sys.argv[1:]
    if given_run_id is None:
        program = words[: len(words) - len(arguments)]
        words = [*program, "--run-id", run_id, *arguments]
    return shlex.join(words)


def launch(job: Job, run_dir: Path, cluster: Cluster, command: str) -> int:
    """Start the stages that are not complete, from a snapshot of the code as it is now."""
    code = snapshot(run_dir)
    print(f"run: {run_dir}", flush=True)
    print_notes(job)
    if cluster.executor == "local":
        from launch import local

        return local.run(job, run_dir, cluster, code, command)
    from launch.submit import submit

    submit(job, run_dir, cluster, code)
    print(f"follow it with: python launch/slurm.py --status {shlex.quote(str(run_dir))} --follow")
    return 0
