"""How often the host waits for a value from the device: in a micro-batch of each method, and in an optimizer step.

    python benchmarks/host_waits.py --teacher TEACHER --tokens TOKENS --output host_waits.json

Everything runs on the meta device, whose tensors have no values: each request for one is counted, and answered with 1.
The step is that of ZeRO 0, the default.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measuring import describe_machine, positive, silence_transformers, write_result
from kd_dist.config.objectives.fastbert import FastBertObjective
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.objectives.relations import RelationsObjective
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.data import TokenData
from kd_dist.config.sections.models import Encoder, Model, Student
from kd_dist.config.sections.models import Teacher as TeacherSection
from kd_dist.config.sections.objective import ObjectiveSection
from kd_dist.config.stages import TrainStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import exit_with_message
from kd_dist.models.teacher import Teacher
from kd_dist.objectives.base import build
from kd_dist.training.engine import ClippedAdamW

META = torch.device("meta")

METHODS: dict[str, ObjectiveSection] = {
    "tinybert": TinyBertObjective(),
    "minilm": RelationsObjective(),
    "soft_labels": SoftLabelsObjective(hard_weight=1.0),
    "fastbert": FastBertObjective(),
    "finetune": FinetuneObjective(),
}

ASKING = ("_local_scalar_dense", "is_nonzero", "equal")  # anything else that needs values raises on the meta device


class Waits(TorchDispatchMode):
    """Count what a host would wait for on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket.__name__ not in ASKING or args[0].device != META:
            return function(*args, **(kwargs or {}))
        self.number += 1
        return 1.0


@contextlib.contextmanager
def on_meta() -> Iterator[Waits]:
    """Count waits where tensors have no values; there is no autocast."""
    with patch.object(torch, "autocast", lambda *_, **__: contextlib.nullcontext()), Waits() as waits:
        yield waits


def stage_of(objective: ObjectiveSection, teacher: str, student: str, tokens: Path) -> TrainStage:
    """Return the stage that trains by a method."""
    models: dict[str, Any] = {"student": Student(config=student), "teacher": TeacherSection(path=teacher)}
    if objective.name == "fastbert":
        models = {"student": None, "model": Model(path=teacher)}
    if objective.name == "finetune":
        models = {"student": None, "encoder": Encoder(path=teacher)}
    return TrainStage(data=TokenData(tokens=str(tokens)), objective=objective, **models)


def count(stage: TrainStage, teacher_path: str, rows: int) -> dict[str, int]:
    """Return the waits of a micro-batch of so many rows, and those of the optimizer step after it."""
    prepared = PreparedRows(Path(stage.data.tokens))
    tokenizer = load_tokenizer(prepared.tokenizer_folder)
    objective = build(stage, tokenizer).train()
    batch = TokenRows(prepared.folder, "train", tokenizer.pad_token_id).collate(np.arange(rows))
    batch = objective.prepare(batch, seed=1)
    counts, weights, wanted = objective.counts(batch), stage.objective.weights(), objective.wanted()
    teacher = Teacher(teacher_path, wanted, precision="fp32", device=META) if wanted is not None else None
    batch = {name: tensor.to(META) for name, tensor in batch.items()}
    optimizer = ClippedAdamW(list(objective.to(META).parameters()), max_norm=1.0, foreach=True)
    with on_meta() as in_batch:
        sums = objective(batch, teacher(batch) if teacher else None).sums
        torch.stack([weights[term] * total / counts[term] for term, total in sums.items()]).sum().backward()
    with on_meta() as in_step:
        optimizer.step()
    return {"micro_batch": in_batch.number, "step": in_step.number}


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts how often the host waits for the device.")
    parser.add_argument("--teacher", required=True, metavar="DIR", help="a trained classifier")
    parser.add_argument("--student", default="tinybert_4l_312", metavar="NAME", help="name in configs/models or file")
    parser.add_argument("--tokens", type=Path, required=True, metavar="DIR", help="labelled rows, prepared")
    parser.add_argument("--rows", type=positive, default=8, metavar="N", help="of a micro-batch (default: 8)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    silence_transformers()
    stages = {name: stage_of(one, options.teacher, options.student, options.tokens) for name, one in METHODS.items()}
    found = {name: count(stage, options.teacher, options.rows) for name, stage in stages.items()}
    for name, waits in found.items():
        Console().print(f"{name}: {waits['micro_batch']} in a micro-batch, {waits['step']} in an optimizer step")
    write_result({"machine": describe_machine(), "waits": found}, options.output)


if __name__ == "__main__":
    exit_with_message(main)
