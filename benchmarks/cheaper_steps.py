"""What is left below the floor: a distillation step in other precisions, and compiled, against the step that is taken.

    python benchmarks/cheaper_steps.py --teacher TEACHER --titles 'titles/*.txt' --output cheaper_steps.json

The step that is taken is that of `engine.precision=auto`. All forms start from the same weights and train on the same
rows in turn, each with the same random numbers, so that their losses show what a form does to training: each is
compared with the loss of fp32 at the same step. Attention that learns is fp32 on a CPU; the form `attention in bf16` is
without that. `--compile` adds forms that take minutes to compile.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from benchmarks.distillation_step import CASES, Models, Ours, batches, prepare_rows, take_step
from benchmarks.measuring import DEVICE, describe_machine, measure_and_show, positive, ratio_of
from kd_dist.errors import exit_with_message
from kd_dist.models.attention import Attention
from kd_dist.models.device import in_bf16
from kd_dist.models.teacher import Batch, Encoded, Teacher

TAKEN, EXACT = "as it is taken", "all in fp32"
WARM_UP_ROUNDS = 2
SEED = 1


class Step(Ours):
    """A step that keeps its losses."""

    def __init__(self, models: Models) -> None:
        super().__init__(models)
        self.losses: list[float] = []

    def loss(self, batch: Batch) -> Tensor:
        loss = super().loss(batch)
        self.losses.append(float(loss.detach()))
        return loss


def distillation(path: str, student: str, precision: str, of_teacher: str | None = None) -> Step:
    """Return the step of a student in a precision, with a teacher in the same or in another one."""
    torch.manual_seed(SEED)
    step = Step(Models(path, student, precision))
    if of_teacher not in (None, precision):
        step.teacher = Teacher(path, step.teacher.wanted, precision=of_teacher, device=DEVICE)
    return step


def with_int8_teacher(step: Step) -> Step:
    """Multiply with the teacher's matrices in int8, by torch's dynamic quantization."""
    step.teacher.model = torch.ao.quantization.quantize_dynamic(step.teacher.model, {nn.Linear}, dtype=torch.qint8)
    return step


def with_attention_in_bf16(step: Step) -> Step:
    """Compute the student's attention in what its queries are in."""
    AttentionInterface.register("as_transformers", _attend)
    AttentionMaskInterface.register("as_transformers", sdpa_mask)
    step.objective.student.set_attn_implementation("as_transformers")
    return step


def _attend(module: nn.Module, *factors_and_mask: Tensor, attention_recorder: Any, **options: Any) -> Any:
    query_BHSK, key_BHSK, value_BHSK, _ = factors_and_mask
    attention_recorder.record(Attention(query_BHSK, key_BHSK, options["scaling"], value_BHSK))
    return sdpa_attention_forward(module, *factors_and_mask, **options)


def compiled(step: Step, teacher: bool) -> Step:
    (step.teacher.model if teacher else step.objective.student).compile(dynamic=True)
    return step


def forms_of(path: str, student: str, compiles: bool) -> dict[str, Step]:
    """Return the forms of a step, by name."""
    taken = "bf16" if in_bf16("auto") else "fp32"
    forms: dict[str, Callable[[], Step]] = {
        EXACT: lambda: distillation(path, student, "fp32"),
        TAKEN: lambda: distillation(path, student, taken),
        "attention in bf16": lambda: with_attention_in_bf16(distillation(path, student, "bf16")),
        "only the teacher in bf16": lambda: distillation(path, student, "fp32", "bf16"),
        "the teacher in int8": lambda: with_int8_teacher(distillation(path, student, taken, "fp32")),
    }
    if compiles:
        forms["the teacher compiled"] = lambda: compiled(distillation(path, student, taken), teacher=True)
        forms["the student compiled"] = lambda: compiled(distillation(path, student, taken), teacher=False)
    return {name: form() for name, form in forms.items()}


def relative_errors(found: Encoded, exact: Encoded, mask_BS: Tensor) -> dict[str, float]:
    """Return the largest relative error of a layer's hidden states, and that of a layer's attention scores."""
    rows_BS = mask_BS.bool()
    pairs_BSS = rows_BS[:, :, None] & rows_BS[:, None, :]

    def scores(attention: Attention) -> Tensor:
        score_BHSS = attention.query_BHSK.float() @ attention.key_BHSK.float().mT
        return score_BHSS.transpose(0, 1)[:, pairs_BSS]

    def error(one: Tensor, other: Tensor) -> float:
        return float((one.float() - other).norm() / other.norm())

    states = [error(found.hidden_states[n][rows_BS], state[rows_BS]) for n, state in exact.hidden_states.items()]
    attention = [error(scores(found.attention[n]), scores(one)) for n, one in exact.attention.items()]
    return {"hidden_states": max(states), "attention": max(attention)}


def measure(forms: dict[str, Step], rows: list[Batch]) -> dict[str, Any]:
    """Take a step of each form on every batch in turn, and return times, losses and errors."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for number, batch in enumerate(rows):
        for name, form in forms.items():
            torch.manual_seed(number)
            seconds[name].append(take_step(form, batch))
    timed = {name: of_form[WARM_UP_ROUNDS:] for name, of_form in seconds.items()}
    exact = forms[EXACT].teacher(rows[0])
    errors = {
        name: relative_errors(form.teacher(rows[0]), exact, rows[0]["attention_mask"]) for name, form in forms.items()
    }
    return {
        "seconds": seconds,
        "losses": {name: form.losses for name, form in forms.items()},
        "faster": {name: ratio_of(timed, TAKEN, name) for name in forms},
        "difference_of_the_loss": {name: _difference(form.losses, forms[EXACT].losses) for name, form in forms.items()},
        "errors_of_the_teacher": errors,
        "padding_share": 1 - float(torch.cat([batch["attention_mask"].flatten() for batch in rows]).float().mean()),
    }


def _difference(found: list[float], exact: list[float]) -> float:
    """Return the largest relative difference of a loss from the exact one of the same step."""
    return max(abs(one - other) / other for one, other in zip(found, exact, strict=True))


def run(options: argparse.Namespace, work: Path, console: Console) -> dict[str, Any]:
    result: dict[str, Any] = {"machine": describe_machine(), "cases": {}}
    texts = {name: getattr(options, CASES[name].source) for name in ("titles", "text128")}
    for name, patterns in texts.items():
        if not patterns:
            continue
        case = CASES[name]._replace(batch_size=options.batch_size)
        prepare_rows(case, patterns, options.teacher, work / name)
        rows = [batch["ours"] for batch in islice(batches(work / name, case), WARM_UP_ROUNDS + options.rounds)]
        console.print(f"measuring {name} ...")
        result["cases"][name] = measure(forms_of(options.teacher, options.student, options.compile), rows)
    return result


def show(result: dict[str, Any], console: Console) -> None:
    for name, case in result["cases"].items():
        title = f"{name}: {case['padding_share']:.1%} of the tokens are padding"
        table = Table("form", "faster", "loss", "hidden states", "attention", title=title)
        for form, faster in case["faster"].items():
            errors = (case["difference_of_the_loss"][form], *case["errors_of_the_teacher"][form].values())
            table.add_row(form, f"{faster:.2f}x", *(f"{error:.2%}" for error in errors))
        console.print(table)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times a distillation step in other precisions, on the same rows.")
    parser.add_argument("--teacher", required=True, metavar="DIR", help="an encoder and its tokenizer")
    parser.add_argument("--student", default="tinybert_4l_312", metavar="NAME", help="name in configs/models or file")
    parser.add_argument("--titles", nargs="+", default=[], metavar="FILE", help="short texts, one a line")
    parser.add_argument("--text", nargs="+", default=[], metavar="FILE", help="long texts; a blank line ends one")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="of a step (default: 32)")
    parser.add_argument("--compile", action="store_true", help="torch.compile of either model too")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="timed rounds (default: 5)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    exit_with_message(lambda: measure_and_show(parse(), run, show))
