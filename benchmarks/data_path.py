"""How many sequences a second one rank's thread prepares: the plan of a step, collation, counts, and pinned memory.

    python benchmarks/data_path.py --tokens TOKENS --output data_path.json

This is what `kd_dist.training.feed` does ahead of a step; a GPU waits only where it is slower than the models. For a
cold round the rows are opened anew after their files left the page cache (written back, then `posix_fadvise` with
POSIX_FADV_DONTNEED). Without `--tokens` the rows are made up, of 20 tokens.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import os
import tempfile
from statistics import median
from typing import Any

import torch
from rich.console import Console

from benchmarks.measuring import describe_machine, in_turn, positive, timed, write_result
from benchmarks.size import write_rows
from kd_dist.config.sections.data import TokenData
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import exit_with_message
from kd_dist.training.batches import BatchPlan

MICRO_BATCHES = 8  # of a step


def steps(rows: TokenRows, batch_size: int, number: int) -> None:
    """Prepare so many steps as one of one rank."""
    sizes = {"global_batch_size": MICRO_BATCHES * batch_size, "micro_batch_size": batch_size}
    plan = BatchPlan(rows.lengths, **sizes, bucket_steps=TokenData(tokens="").bucket_steps, seed=42)
    for step in range(1, number + 1):
        for micro_batch in plan.micro_batches(step, rank=0, world_size=1):
            tensors = rows.collate(micro_batch.rows)
            if torch.cuda.is_available():
                tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}


def made_rows(folder: Path, number: int) -> Path:
    """Write so many rows of random tokens."""
    write_rows(folder, number, num_classes=2)
    return folder / "tokens"


def drop_from_cache(folder: Path) -> None:
    """Let the kernel forget the files of a folder, which nobody may have mapped."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold_seconds(tokens: Path, pad: int, batch_size: int, number: int) -> float:
    """Return the seconds of so many steps whose rows are read from the disk; opening them is done once a run."""
    drop_from_cache(tokens)
    rows = TokenRows(tokens, "train", pad)
    return timed(lambda: steps(rows, batch_size, number))[0]


def measure(tokens: Path, batch_size: int, number: int, rounds: int) -> dict[str, Any]:
    """Return the median sequences per second, from memory and from cold files."""
    pad = load_tokenizer(PreparedRows(tokens).tokenizer_folder).pad_token_id
    cold = [cold_seconds(tokens, pad, batch_size, number) for _ in range(rounds)]
    rows = TokenRows(tokens, "train", pad)
    seconds = in_turn({"steps": lambda: steps(rows, batch_size, number)}, rounds)["steps"]
    sequences = number * MICRO_BATCHES * batch_size
    return {
        "sequences_per_second": sequences / median(seconds),
        "cold_sequences_per_second": sequences / median(cold),
        "mean_length": float(rows.lengths[:].mean()),
        "pinned": torch.cuda.is_available(),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the preparation of one rank's batches.")
    parser.add_argument("--tokens", type=Path, metavar="DIR", help="prepared rows; made up if left out")
    parser.add_argument("--rows", type=positive, default=300_000, metavar="N", help="made up (default: 300000)")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="of a micro-batch (default: 32)")
    parser.add_argument("--steps", type=positive, default=100, metavar="N", help="of a round (default: 100)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="timed rounds (default: 5)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        tokens = options.tokens or made_rows(Path(work), options.rows)
        found = measure(tokens, options.batch_size, options.steps, options.rounds)
    result = {"machine": describe_machine(), **found}
    rate, cold, length = (result[key] for key in ("sequences_per_second", "cold_sequences_per_second", "mean_length"))
    Console().print(f"{rate:,.0f} sequences a second, {cold:,.0f} from cold files; {length:.0f} tokens in the mean")
    write_result(result, options.output)


if __name__ == "__main__":
    exit_with_message(main)
