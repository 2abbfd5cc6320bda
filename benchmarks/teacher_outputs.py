"""An epoch of prediction distillation with the teacher running along, and with its outputs read from disk.

    python benchmarks/teacher_outputs.py runs/tinybert_task/RUN_ID --output results/teacher_outputs.json

Both forms, and the teacher's forward pass by itself, take the same micro-batches of the run's `distill` stage in turn
(A B C A B C ...). Reading can save at most the teacher's whole share: (teacher forward + student step) / student step,
where a student step has its logits in memory already.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.measuring import DEVICE, describe_machine, positive, timed, to_device, write_result
from kd_dist.config.stages import TrainStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import RunError, UserError, exit_with_message
from kd_dist.model_files.model_folders import task_of
from kd_dist.models.teacher import Batch, Teacher
from kd_dist.objectives.base import build
from kd_dist.runs.layout import read_stage
from kd_dist.training.batches import BatchPlan
from kd_dist.training.teacher_outputs import StoredOutputs

TOLERANCE = 1e-3  # largest allowed difference between a stored logit and the teacher's
WARM_UP = 3


class Distillation:
    """The `distill` stage of a run, one micro-batch at a time."""

    def __init__(self, run_dir: Path) -> None:
        if not (run_dir / "distill" / "config.json").exists():
            raise UserError(f"{run_dir} is not a run of the job tinybert_task or tinybert: it has no stage `distill`")
        stage: TrainStage = read_stage(run_dir / "distill")
        if stage.data.teacher_outputs is None or stage.teacher is None:
            raise UserError(f"{run_dir} was run without data.teacher_outputs: there is nothing to compare")
        self.stage, self.tokens = stage, Path(stage.data.tokens)
        tokenizer = load_tokenizer(PreparedRows(self.tokens).tokenizer_folder)
        outputs = StoredOutputs(Path(stage.data.teacher_outputs))
        self.plain = TokenRows(self.tokens, "train", tokenizer.pad_token_id)
        self.stored = TokenRows(self.tokens, "train", tokenizer.pad_token_id, outputs)
        live = stage.model_copy(update={"data": stage.data.model_copy(update={"teacher_outputs": None})})
        self.objective = build(live, tokenizer).to(DEVICE).train()
        wanted = self.objective.wanted()
        assert wanted is not None
        label2id = PreparedRows(self.tokens).label2id
        self.teacher = Teacher(stage.teacher.path, wanted, precision="fp32", device=DEVICE, label2id=label2id)
        config = self.objective.student.config
        rate = stage.learning_rate(config.hidden_size, config.model_type, task_of(config.to_dict()))
        self.optimizer = torch.optim.AdamW(self.objective.parameters(), lr=rate, fused=True)
        self.plan = BatchPlan(
            self.plain.lengths,
            global_batch_size=stage.train.global_batch_size,
            micro_batch_size=stage.train.global_batch_size,
            bucket_steps=stage.data.bucket_steps,
            seed=stage.train.seed,
        )

    def rows(self, step: int) -> Any:
        return self.plan.rows(step)

    def with_teacher(self, step: int) -> Tensor:
        batch = to_device(self.plain.collate(self.rows(step)))
        return self.train(batch, self.teacher(batch))

    def with_outputs(self, step: int) -> Tensor:
        return self.train(to_device(self.stored.collate(self.rows(step))), None)

    def teacher_alone(self, step: int) -> Tensor | None:
        return self.teacher(to_device(self.plain.collate(self.rows(step)))).logits

    def train(self, batch: Batch, teacher: Any) -> Tensor:
        """One step of forward, backward and AdamW."""
        self.optimizer.zero_grad()
        loss = torch.stack(list(self.objective(batch, teacher).sums.values())).sum()
        loss.backward()
        self.optimizer.step()
        return loss

    def check(self) -> float:
        """Return the largest difference between stored logits and the teacher's own.

        Raises:
            RunError: They differ.
        """
        batch = self.stored.collate(self.rows(1))
        logits_BC = self.teacher(to_device(batch)).logits
        assert logits_BC is not None
        difference = float((batch["teacher_logits"] - logits_BC.cpu()).abs().max())
        if not difference < TOLERANCE:
            raise RunError(f"stored logits differ from the teacher's by {difference}")
        return difference


def measure(run_dir: Path, steps: int) -> dict[str, Any]:
    distillation = Distillation(run_dir)
    difference = distillation.check()
    # The best case of a student step has its rows and logits in memory before the clock starts.
    forms: dict[str, Callable[[int], Any]] = {
        "teacher runs along": distillation.with_teacher,
        "outputs from disk": distillation.with_outputs,
        "teacher forward alone": distillation.teacher_alone,
    }
    seconds: dict[str, list[float]] = {name: [] for name in (*forms, "student step alone")}
    for step in range(1, WARM_UP + steps + 1):
        for name, form in forms.items():
            seconds[name].append(timed(partial(form, step))[0])
        batch = to_device(distillation.stored.collate(distillation.rows(step)))
        seconds["student step alone"].append(timed(partial(distillation.train, batch, None))[0])
    medians = {name: median(values[WARM_UP:]) for name, values in seconds.items()}
    steps_of_an_epoch = len(distillation.plain) / distillation.stage.train.global_batch_size
    student = medians["student step alone"]
    return {
        "rows": len(distillation.plain),
        "largest_difference_of_a_logit": difference,
        "median_seconds_of_a_step": medians,
        "seconds_of_an_epoch": {name: value * steps_of_an_epoch for name, value in medians.items()},
        "ratio": medians["teacher runs along"] / medians["outputs from disk"],
        "best_possible_ratio": (medians["teacher forward alone"] + student) / student,
        "steps": steps,
        "machine": describe_machine(),
    }


def show(result: dict[str, Any]) -> None:
    table = Table("form", "a step", "an epoch", title=f"{result['rows']:,} rows, medians of {result['steps']} steps")
    for name, seconds in result["median_seconds_of_a_step"].items():
        table.add_row(name, f"{seconds:.3f} s", f"{result['seconds_of_an_epoch'][name]:.0f} s")
    Console().print(table)
    print(f"ratio {result['ratio']:.2f}, at best {result['best_possible_ratio']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Times distillation with a running teacher and with stored outputs.")
    parser.add_argument("run", type=Path, help="a finished run of tinybert_task or tinybert")
    parser.add_argument("--steps", type=positive, default=60, metavar="N", help="timed steps per form (default: 60)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    result = measure(options.run, options.steps)
    show(result)
    write_result(result, options.output)


if __name__ == "__main__":
    exit_with_message(main)
