"""Three students on one pass of the teacher, against what the teacher and three students take one after another.

    python benchmarks/students.py --teacher TEACHER --titles 'titles/*.txt' --output students.json

The steps are those of training, of 256 rows in micro-batches of 32. In every round three students take a step
together, another one takes it alone, and the teacher runs on the same rows. With T for the teacher and S for a student
alone is T + S, and the bound T + 3 S.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import os
from functools import partial
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.distillation_step import CASES, prepare_rows
from benchmarks.measuring import describe_machine, in_turn, measure_and_show, positive, to_device
from kd_dist.config.job import Job
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.data import TokenData
from kd_dist.config.sections.models import Student, Teacher
from kd_dist.config.sections.training import Cadence, Train
from kd_dist.config.stages import TrainStage
from kd_dist.errors import exit_with_message
from kd_dist.models.teacher import Batch
from kd_dist.runs.layout import open_run
from kd_dist.runs.tries import Tries
from kd_dist.training import distributed, engine
from kd_dist.training.batches import BatchPlan
from kd_dist.training.stage import InTraining, set_up
from kd_dist.training.together import steps
from kd_dist.training.watchdog import Watchdog

TOGETHER = 3


def training(teacher: str, student: str, tokens: Path, seed: int, num_steps: int) -> TrainStage:
    """Return the training of a student, without evaluations, saves and logged steps on the way."""
    cadence = dict.fromkeys(("log_every_n_steps", "save_every_n_steps", "evaluate_every_n_steps"), 10 * num_steps)
    return TrainStage(
        teacher=Teacher(path=teacher),
        student=Student(config=student, seed=seed),
        data=TokenData(tokens=str(tokens)),
        objective=TinyBertObjective(),
        train=Train(steps=2 * num_steps),
        cadence=Cadence(**cadence),
    )


def opened(stages: dict[str, TrainStage], runs_dir: Path) -> list[InTraining]:
    """Return the students of stages, to be trained together."""
    job = Job(name="students", description="stages that train", stages=stages, result=next(iter(stages)))
    run_dir = open_run(job, runs_dir, "_".join(stages))
    folders = {run_dir / name: stage for name, stage in stages.items()}
    students = set_up(folders, Watchdog(60, Tries(next(iter(folders)))))
    for student in students:
        student.trainer.resume()
    return students


def batches_of(trained: InTraining, num_steps: int) -> list[list[Batch]]:
    """Return the micro-batches of the first steps."""
    rows, stage = trained.loaded.rows, trained.stage
    plan = BatchPlan(
        rows.lengths,
        global_batch_size=stage.train.global_batch_size,
        micro_batch_size=stage.train.sequences_per_micro_batch(),
        bucket_steps=stage.data.bucket_steps,
        seed=stage.train.seed,
    )
    micro_batches = (plan.micro_batches(step, rank=0, world_size=1) for step in range(1, num_steps + 1))
    return [[to_device(rows.collate(one.rows)) for one in of_step] for of_step in micro_batches]


def measure(teacher: str, student: str, tokens: Path, runs_dir: Path, rounds: int) -> dict[str, Any]:
    """Return the seconds of steps together and alone and of the teacher, and what together takes of the bound."""
    num_steps = 1 + rounds  # one warms up
    stage_of = partial(training, teacher, student, tokens, num_steps=num_steps)
    together = opened({f"student_{seed}": stage_of(seed) for seed in range(TOGETHER)}, runs_dir)
    alone = opened({"alone": stage_of(TOGETHER)}, runs_dir)
    run_teacher, batches = alone[0].loaded.teacher, iter(batches_of(alone[0], num_steps))
    assert run_teacher is not None
    taken = {name: steps([one.trainer for one in of]) for name, of in (("together", together), ("alone", alone))}
    forms: dict[str, Any] = {name: partial(next, of_form) for name, of_form in taken.items()}
    seconds = in_turn(forms | {"teacher": lambda: [run_teacher(batch) for batch in next(batches)]}, rounds)
    for one in (*together, *alone):
        one.trainer.close()
        one.tracker.close()
    bounds = [
        TOGETHER * one - (TOGETHER - 1) * of_teacher
        for one, of_teacher in zip(seconds["alone"], seconds["teacher"], strict=True)
    ]
    shares = [found / bound for found, bound in zip(seconds["together"], bounds, strict=True)]
    return {
        "students": TOGETHER,
        "seconds": seconds,
        "teacher_share": median(t / one for t, one in zip(seconds["teacher"], seconds["alone"], strict=True)),
        "over_the_bound": median(shares),
        "faster": median(
            TOGETHER * one / found for one, found in zip(seconds["alone"], seconds["together"], strict=True)
        ),
    }


def run(options: argparse.Namespace, work: Path, console: Console) -> dict[str, Any]:
    engine.start()
    prepare_rows(CASES["titles"], options.titles, options.teacher, work / "tokens")
    machine = describe_machine()
    return {"machine": machine, **measure(options.teacher, options.student, work / "tokens", work, options.rounds)}


def show(result: dict[str, Any], console: Console) -> None:
    console.print(
        f"{result['students']} students together: {result['over_the_bound']:.2f} of T + {result['students']} S, "
        f"{result['faster']:.2f}x as fast as one after another; T is {result['teacher_share']:.0%} of a step alone"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Times steps of three students together, of one alone, and T.")
    parser.add_argument("--teacher", required=True, metavar="DIR", help="an encoder and its tokenizer")
    parser.add_argument("--student", default="tinybert_4l_312", metavar="NAME", help="name in configs/models or file")
    parser.add_argument("--titles", nargs="+", required=True, metavar="FILE", help="short texts, one a line; globs too")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="timed rounds (default: 5)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    os.environ["WANDB_MODE"] = "disabled"
    measure_and_show(parser.parse_args(), run, show)
    distributed.shut_down()


if __name__ == "__main__":
    exit_with_message(main)
