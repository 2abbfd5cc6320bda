"""What W&B costs a step of training: the same steps without it, offline, and with a server that no longer answers.

    python benchmarks/tracking.py runs/JOB/RUN_ID/STAGE --output results/tracking.json

Every step is logged, which is ten times as often as a run does by default. Each form has a process of its own in turn
(A B C A B C ...), since W&B reads its settings once; the server answers until training has begun.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from statistics import mean, median
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import describe_machine, positive, silence_transformers, write_result
from kd_dist.config.job import Job
from kd_dist.config.stages import TrainStage
from kd_dist.errors import UserError, exit_with_message
from kd_dist.runs.layout import open_run, read_stage
from kd_dist.runs.metrics import read_metrics
from kd_dist.runs.wandb_run import WandbRun
from tests.runs.wandb_server import StandIn, stand_in

FORMS = {"without W&B": "disabled", "offline": "offline", "a server that is silent": "online"}
WARM_UP = 10


def measure(stage: TrainStage, rounds: int) -> dict[str, Any]:
    """Return the median seconds of a step in each form, and of the calls of W&B within it the mean and the longest."""
    found: dict[str, list[dict[str, list[float]]]] = {form: [] for form in FORMS}
    for _ in range(rounds):
        for form, mode in FORMS.items():
            with stand_in() as server, tempfile.TemporaryDirectory() as folder:
                found[form].append(_in_a_process(stage, Path(folder), _variables(mode, server), server))
    return {
        "steps": stage.train.steps,
        "rounds": rounds,
        "forms": {form: _summary(of_rounds) for form, of_rounds in found.items()},
        "machine": describe_machine(),
    }


def _variables(mode: str, server: StandIn) -> dict[str, str]:
    return {"WANDB_MODE": mode, "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.address}


def _in_a_process(
    stage: TrainStage, folder: Path, variables: dict[str, str], server: StandIn
) -> dict[str, list[float]]:
    """Train in a process of its own, and silence the server once it has got a step."""
    spawn = multiprocessing.get_context("spawn")
    job = Job(name="tracking", description="one stage", stages={"train": stage}, result="train")
    stage_dir = open_run(job, folder, "a") / "train"
    with spawn.Pool(1) as pool:
        ending = pool.apply_async(train, (stage, stage_dir, variables))
        while not (ending.ready() or server.rows):
            time.sleep(0.05)
        server.silent.set()
        return ending.get()


def train(stage: TrainStage, stage_dir: Path, variables: Mapping[str, str]) -> dict[str, list[float]]:
    """Train here, and return the seconds of every step, and of every call in it that hands a row to W&B."""
    from kd_dist.training.stage import run

    os.environ.update(variables)
    silence_transformers()
    calls: list[float] = []
    with mock.patch.object(WandbRun, "log", _timed(WandbRun.log, calls)):
        run(stage, stage_dir, shard=0)
    rows = [row for row in read_metrics(stage_dir / "metrics.jsonl") if "train/loss" in row]
    steps = [stage.train.global_batch_size / row["speed/samples_per_second"] for row in rows]
    return {"steps": steps[WARM_UP:], "calls": calls[WARM_UP:]}


def _timed(call: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """Return a function that adds what each call takes to a list."""

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        result = call(*arguments)
        seconds.append(time.perf_counter() - started)
        return result

    return timed


def _summary(of_rounds: list[dict[str, list[float]]]) -> dict[str, float]:
    calls = [seconds for one in of_rounds for seconds in one["calls"]]
    step = median(median(one["steps"]) for one in of_rounds)
    return {
        "median_seconds_of_a_step": step,
        "mean_seconds_of_calls": mean(calls),
        "longest_seconds_of_a_call": max(calls),
        "share_of_a_step": mean(calls) / step,
    }


def show(result: dict[str, Any]) -> None:
    table = Table("form", "a step", "W&B's calls in it", "longest", "share")
    for form, one in result["forms"].items():
        step, calls, longest, share = one.values()
        table.add_row(form, f"{step * 1e3:.1f} ms", f"{calls * 1e3:.3f} ms", f"{longest * 1e3:.1f} ms", f"{share:.2%}")
    Console().print(table)


def shortened(stage_dir: Path, steps: int) -> TrainStage:
    """Return a training stage of a run with so many steps, each of them logged, and without evaluations and saves.

    Raises:
        UserError: It is no training stage.
    """
    if not (stage_dir / "config.json").exists() or not isinstance(stage := read_stage(stage_dir), TrainStage):
        raise UserError(f"{stage_dir} is no training stage of a run: give runs/<job>/<run_id>/<stage>")
    train = stage.train.model_copy(update={"steps": steps})
    seldom = {"save_every_n_steps": 10 * steps, "evaluate_every_n_steps": 10 * steps}
    cadence = stage.cadence.model_copy(update={"log_every_n_steps": 1, **seldom})
    return stage.model_copy(update={"train": train, "cadence": cadence, "selection": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Times steps of training without W&B, and with it.")
    parser.add_argument("stage", type=Path, help="a training stage of a run: runs/<job>/<run_id>/<stage>")
    parser.add_argument("--steps", type=positive, default=300, metavar="N", help="steps of a form (default: 300)")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="rounds of all forms (default: 3)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    result = measure(shortened(options.stage, WARM_UP + options.steps), options.rounds)
    show(result)
    write_result(result, options.output)


if __name__ == "__main__":
    exit_with_message(main)
