"""How fast a teacher's outputs are written, as a share of its forward pass over the same rows in memory.

    python benchmarks/outputs_speed.py --teacher TEACHER --tokens TOKENS --output outputs.json

A shard of half as many rows is subtracted, so that loading the model, which long runs do once, does not count. Both
sides take turns (A B A B ...).
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import tempfile
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.measuring import (
    DEVICE,
    describe_machine,
    positive,
    silence_transformers,
    timed,
    to_device,
    write_result,
)
from kd_dist.config.sections.data import DistillationData
from kd_dist.config.sections.models import Teacher as TeacherSection
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stages import TeacherOutputsStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import exit_with_message
from kd_dist.models.teacher import Batch, Teacher, Wanted
from kd_dist.training.teacher_outputs import run

BATCH_ROWS = 64


def stage_of(teacher: Path, tokens: Path, shards: int) -> TeacherOutputsStage:
    """Return the stage that writes the outputs of the rows in so many shards."""
    return TeacherOutputsStage(
        teacher=TeacherSection(path=str(teacher)),
        data=DistillationData(tokens=str(tokens)),
        resources=ShardResources(shards=shards),
    )


def seconds_of(stage: TeacherOutputsStage) -> float:
    """Return what the first shard takes."""
    with tempfile.TemporaryDirectory() as folder:
        return timed(lambda: run(stage, Path(folder), 0))[0]


def batches_of(tokens: Path, numbers: slice) -> list[Batch]:
    """Return training and validation rows as batches of similar lengths."""
    pad = load_tokenizer(PreparedRows(tokens).tokenizer_folder).pad_token_id
    batches: list[Batch] = []
    for split in ("train", "validation"):
        rows = TokenRows(tokens, split, pad)
        own = np.arange(len(rows))[numbers]
        own = own[np.argsort(rows.lengths[own], kind="stable")]
        batches += [to_device(rows.collate(own[n : n + BATCH_ROWS])) for n in range(0, len(own), BATCH_ROWS)]
    return batches


def measure(path: Path, tokens: Path, shards: int, rounds: int) -> dict[str, Any]:
    """Return rows per second of the stage and of the forward pass, for as many rows as half a shard has."""
    batches = batches_of(tokens, slice(0, None, 2 * shards))
    stages = {"shard": stage_of(path, tokens, shards), "half": stage_of(path, tokens, 2 * shards)}
    teacher = Teacher(str(path), Wanted(logits=True), precision=stages["shard"].engine.precision, device=DEVICE)
    found: list[dict[str, float]] = []
    for _ in range(1 + rounds):
        one = {name: seconds_of(stage) for name, stage in stages.items()}
        one["forward"] = timed(lambda: [teacher(batch).logits for batch in batches])[0]
        found.append(one)
    number = sum(len(batch["input_ids"]) for batch in batches)
    writing = float(np.median([one["shard"] - one["half"] for one in found[1:]]))
    forward = float(np.median([one["forward"] for one in found[1:]]))
    return {
        "rows": number,
        "rows_per_second": {"stage": number / writing, "forward": number / forward},
        "share": forward / writing,
        "rounds": found[1:],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the stage of a teacher's outputs against its forward pass.")
    parser.add_argument("--teacher", type=Path, required=True, metavar="DIR", help="a trained classifier")
    parser.add_argument("--tokens", type=Path, required=True, metavar="DIR", help="labelled rows, prepared")
    parser.add_argument("--shards", type=positive, default=2, metavar="N", help="of the rows (default: 2)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="timed rounds (default: 5)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    silence_transformers()
    torch.manual_seed(42)
    result = {"machine": describe_machine(), **measure(options.teacher, options.tokens, options.shards, options.rounds)}
    rates = ", ".join(f"{name} {rate:.0f} rows/s" for name, rate in result["rows_per_second"].items())
    Console().print(f"{rates}; share {result['share']:.2f}")
    write_result(result, options.output)


if __name__ == "__main__":
    exit_with_message(main)
