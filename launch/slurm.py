"""The command line: check a job, write its run folder, and put its stages on SLURM or on this machine.

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
import json

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, job_names
from kd_dist.config.seeds import with_seeds
from kd_dist.errors import exit_with_message
from kd_dist.planning.checks import load_checked_job
from kd_dist.planning.hub import with_fetched_models
from kd_dist.runs.layout import default_run_id, open_run
from launch.cluster import Cluster, load_cluster


def main() -> int:
    options = _parse(sys.argv[1:])
    if options.list:
        return _list()
    if options.status:
        from launch.status import show_status

        return show_status(options.status)
    if options.options:
        return _show_options(find_job(options.job))
    cluster = load_cluster(options.cluster)
    once = load_checked_job(options.job, options.overrides, options.config, plan_only=options.dry_run)
    job = with_seeds(once, options.seeds)
    runs_dir = options.runs_dir or Path(cluster.runs_dir or "runs")
    run_id = options.run_id or default_run_id()
    if options.dry_run:
        from launch.submit import print_plan

        return print_plan(job, runs_dir / job.name / run_id, cluster)
    from launch.submit import require_idle, require_slurm

    if cluster.executor == "slurm":
        require_slurm()
    require_idle(runs_dir / job.name / run_id)
    if options.rehearse:
        from launch.rehearsal import rehearse

        rehearse(with_fetched_models(once))
    job = with_fetched_models(job)
    return launch(job, open_run(job, runs_dir, run_id), cluster)


def launch(job: Job, run_dir: Path, cluster: Cluster) -> int:
    """Start the stages that are not complete, from a snapshot of the code as it is now."""
    from launch.submit import print_notes, snapshot, submit

    code = snapshot(run_dir)
    print(f"run: {run_dir}", flush=True)
    print_notes(job)
    if cluster.executor == "local":
        from launch import local

        return local.run(job, run_dir, cluster, code)
    submit(job, run_dir, cluster, code)
    print(f"follow it with: python launch/slurm.py --status {run_dir}")
    return 0


def _list() -> int:
    width = max(len(name) for name in job_names())
    for name in job_names():
        print(f"{name:{width}}  {find_job(name).description}")
    return 0


def _show_options(job: Job) -> int:
    """Every key of the job with its default and meaning."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    for name, stage in job.stages.items():
        table = Table("key", "default", "meaning", title=f"stage {name}", title_justify="left", expand=True)
        for section_name, section in stage.sections():
            for key, field in type(section).model_fields.items():
                if f"{section_name}.{key}" in set(stage.options()):
                    value = json.dumps(getattr(section, key))
                    table.add_row(f"{section_name}.{key}", escape(value), escape(field.description or ""))
        Console().print(table)
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch/slurm.py",
        description="Start a job on SLURM or on this machine, or look at a run.",
        epilog=(
            "A setting is section.key=value and reaches every stage that has the key; stage.section.key=value reaches "
            "one stage. The same --run-id continues a run: complete stages are skipped, training resumes. "
            "Exit status: 0 well, 1 failed at run time, 2 wrong settings (nothing was started)."
        ),
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--job", help="the job to start; --list names them")
    what.add_argument("--list", action="store_true", help="name every job")
    what.add_argument(
        "--status", type=Path, metavar="RUN", help="state, step, loss and time left of each stage of a run"
    )
    parser.add_argument("--options", action="store_true", help="with --job: every setting, its default and its meaning")
    parser.add_argument(
        "--cluster", default="slurm", help="a profile in configs/clusters, or a YAML file (default: slurm)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show stages, settings, resources and sbatch files only")
    parser.add_argument(
        "--rehearse", action="store_true", help="first run every stage here, on a little of the data and for two steps"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        choices=range(1, 101),
        default=1,
        metavar="N",
        help="repeat the stages that depend on chance with N seeds: train.seed, train.seed + 1, ... (default: 1)",
    )
    parser.add_argument("--run-id", help="name of the run (default: date and time); the same name continues it")
    parser.add_argument("--runs-dir", type=Path, help="where runs are kept (default: the profile's, else runs)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="settings, applied before those on the command line"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings, such as train.steps=300")
    options = parser.parse_intermixed_args(arguments)
    if options.overrides and not options.job:
        parser.error("settings need a --job")
    return options


if __name__ == "__main__":
    exit_with_message(main)
