"""Training on two ranks with a core each against one rank with one core.

    python benchmarks/ranks.py --student STUDENT --tokens TOKENS --output ranks.json

Both are real runs of a training stage, started in turn (A B A B ...); a speed is the median of the steps that a run
logs after the first few.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import os
import subprocess
import tempfile
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.measuring import describe_machine, positive, write_result
from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.data import TokenData
from kd_dist.config.sections.models import Student
from kd_dist.config.sections.training import Cadence, Train
from kd_dist.config.stages import TrainStage
from kd_dist.errors import RunError, UserError, exit_with_message
from kd_dist.runs.layout import open_run
from kd_dist.runs.metrics import read_metrics
from kd_dist.training.ports import free_port
from launch.cluster import load_cluster, rank_environment

WARM_UP = 4  # steps that are not counted


def training(student: Path, tokens: Path, steps: int) -> TrainStage:
    """Return a stage of so many steps, each of them logged, and without evaluations and saves on the way."""
    return TrainStage(
        student=Student(path=str(student.absolute())),
        data=TokenData(tokens=str(tokens.absolute())),
        objective=FinetuneObjective(),
        train=Train(steps=steps, global_batch_size=64, micro_batch_size=16),
        cadence=Cadence(log_every_n_steps=1, save_every_n_steps=10 * steps, evaluate_every_n_steps=10 * steps),
    )


def speed(stage: TrainStage, cores: list[int]) -> float:
    """Return the median sequences per second with a rank on each of these cores.

    Raises:
        RunError: A rank failed, and has printed why.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = Job(name="ranks", description="one stage", stages={"train": stage}, result="train")
        stage_dir = open_run(job, Path(folder), "a") / "train"
        size = str(len(cores))
        shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": str(free_port())}
        shared |= {"MASTER_ADDR": "127.0.0.1", "WANDB_MODE": "disabled", "PYTHONPATH": str(REPOSITORY)}
        variables = {**os.environ, **rank_environment(load_cluster("local")), **shared}
        ranks = [
            subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-m", "launch.task", str(stage_dir)],
                env=variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.DEVNULL,
            )
            for rank in range(len(cores))
        ]
        if any([rank.wait() for rank in ranks]):
            raise RunError("a rank failed, see above")
        rows = [row for row in read_metrics(stage_dir / "metrics.jsonl") if "speed/samples_per_second" in row]
        return median(row["speed/samples_per_second"] for row in rows[WARM_UP:])


def measure(stage: TrainStage, rounds: int) -> dict[str, Any]:
    """Return the speeds of both forms, and the median over the rounds of how much faster two ranks are."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise UserError("two ranks with a core each need a machine with two cores, and this process may use one alone")
    found = [{"1 x 1": speed(stage, cores[:1]), "2 x 1": speed(stage, cores)} for _ in range(rounds)]
    return {"rounds": found, "faster": median(one["2 x 1"] / one["1 x 1"] for one in found)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains on one rank and on two, with a core for each rank, in turn.")
    parser.add_argument("--student", type=Path, required=True, metavar="DIR", help="the classifier to train further")
    parser.add_argument("--tokens", type=Path, required=True, metavar="DIR", help="labelled rows, prepared")
    parser.add_argument("--steps", type=positive, default=20, metavar="N", help="steps of a run (default: 20)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="runs of each form (default: 5)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    stage = training(options.student, options.tokens, WARM_UP + options.steps)
    result = {"machine": describe_machine(), **measure(stage, options.rounds)}
    Console().print(f"2 ranks x 1 thread against 1 x 1: {result['faster']:.2f}x")
    write_result(result, options.output)


if __name__ == "__main__":
    exit_with_message(main)
