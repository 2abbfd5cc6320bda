"""The command line: start a job on SLURM or on this machine, or look at a run.

python launch/slurm.py --job tinybert_general --dry-run
python launch/slurm.py --job tinybert_general --cluster example data.corpus='corpus/*.txt.gz' teacher.path=DIR
python launch/slurm.py --job tinybert_general --cluster local train.steps=300
python launch/slurm.py --status runs/tinybert_general/20260101-120000
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import os

from kd_dist.config.jobs import find_job, job_names
from kd_dist.errors import exit_with_message
from launch.arguments import SHORT_HELP, parse


def main() -> int:
    """Do what the command line says; every verb has a module of its own, which is only imported for it."""
    try:
        status = _do(parse(sys.argv[1:])) if sys.argv[1:] else _help()
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _help() -> int:
    print(SHORT_HELP)
    return 0


def _do(options: argparse.Namespace) -> int:
    if options.list:
        return _list_jobs()
    if options.options is not None:
        from launch.options import show_options

        return show_options(find_job(options.job), options.options)
    if options.job:
        from launch.start import start

        return start(options)
    return _follow(options) if options.follow else _look(options)


def _look(options: argparse.Namespace) -> int:
    """Look at a run, at all runs, or end one."""
    from launch.cluster import load_cluster
    from launch.runs import find_run, list_runs

    runs_dir = options.runs_dir or Path(load_cluster(options.cluster).runs_dir or "runs")
    if options.logs:
        from launch.logs import show_logs

        stage = next(iter(options.overrides), None)
        return show_logs(find_run("--logs", options.logs, runs_dir), stage, options.follow)
    if options.sync:
        from launch.sync import sync

        return sync(find_run("--sync", options.sync, runs_dir))
    if options.cancel:
        from launch.cancel import cancel

        return cancel(find_run("--cancel", options.cancel, runs_dir), options.yes)
    if not options.status:
        return list_runs(runs_dir)
    from launch.status import follow_status, show_status

    run_dir = find_run("--status", options.status, runs_dir)
    return follow_status(run_dir) if options.follow else show_status(run_dir)


def _follow(options: argparse.Namespace) -> int:
    """Go on until it is over or somebody has seen enough: Ctrl-C is no error here."""
    try:
        return _look(options)
    except KeyboardInterrupt:
        return 130


def _list_jobs() -> int:
    width = max(len(name) for name in job_names())
    for name in job_names():
        print(f"{name:{width}}  {find_job(name).description}")
    return 0


if __name__ == "__main__":
    exit_with_message(main)
