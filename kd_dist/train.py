"""The command that runs a job on ranks that a launcher has started.

deepspeed --num_accelerators 2 kd_dist/train.py --job tinybert_general data.corpus='corpus/*.txt'
torchrun --nproc-per-node 2 kd_dist/train.py --job ...        python kd_dist/train.py --job ...
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import sys
from pathlib import Path

from kd_dist.config.jobs import find_job
from kd_dist.errors import UserError, exit_with_message
from kd_dist.planning.checks import load_checked_job
from kd_dist.planning.hub import with_fetched_models
from kd_dist.runs.claim import claim
from kd_dist.runs.layout import default_run_id, open_run, read_job, run_folder
from kd_dist.runs.stage_runner import run_stage
from kd_dist.training import distributed, engine


def main() -> int:
    """Run all stages of a job, one after another, and return the exit status."""
    options = _parse(sys.argv[1:])
    distributed.set_environment_defaults()
    # Rank 0 finds mistakes before it joins the others, which the launcher ends when rank 0 exits.
    opened = _open_run(options) if distributed.rank() == 0 else None
    engine.start()
    run_dir = distributed.broadcast(opened)
    for name, stage in read_job(run_dir).stages.items():
        if stage.needs_gpus() or distributed.rank() == 0:
            run_stage(run_dir / name)
        distributed.barrier()
    if distributed.rank() == 0:
        print(f"done: {run_dir}")
    distributed.shut_down()
    return 0


def _open_run(options: argparse.Namespace) -> Path:
    """Check the job, with as many ranks as the launcher has started, and open its run folder."""
    taken = [text for text in options.overrides if "resources.nodes=" in text or "resources.gpus_per_node=" in text]
    if taken:
        raise UserError(
            f"{taken[0]}: the launcher decides the number of ranks: use deepspeed --num_accelerators N instead"
        )
    ranks_here = distributed.ranks_of_this_node()
    world = [
        f"resources.nodes={distributed.world_size() // ranks_here}",
        f"resources.gpus_per_node={ranks_here}",
    ]
    is_distributed = any(stage.needs_gpus() for stage in find_job(options.job).stages.values())
    job = load_checked_job(options.job, [*options.overrides, *(world if is_distributed else [])], options.config)
    run_id = default_run_id() if options.run_id is None else options.run_id
    claim(run_folder(options.runs_dir, job.name, run_id))
    return open_run(with_fetched_models(job), options.runs_dir, run_id)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="kd_dist/train.py",
        description="Run a job on the ranks that deepspeed or torchrun started here (plain python: one rank).",
        epilog="example: deepspeed --num_accelerators 2 kd_dist/train.py --job tinybert_general train.steps=300",
    )
    parser.add_argument("--job", required=True, help="a name from `python launch/slurm.py --list`")
    parser.add_argument("--run-id", default=None, help="name of the run; the same name continues it")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
    parser.add_argument("--config", type=Path, help="YAML file with settings, applied before the overrides")
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher appends it
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings, for example train.steps=300"
    )
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    exit_with_message(main, is_rank=True)
