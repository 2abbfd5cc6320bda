"""Whether the memory of a shard of teacher outputs grows with its rows: what N rows take, and what 4N take.

    python benchmarks/outputs_memory.py --rows 250000 --output outputs_memory.json

Blocks are written and distributed to the files that training reads, as by the stage, with random numbers in place of a
teacher, whose memory is that of one batch. Each size runs in a process of its own.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import tempfile
from typing import Any

from rich.console import Console

from benchmarks.measuring import describe_machine, positive, write_result
from benchmarks.size import in_a_process, store, write_rows
from kd_dist.errors import exit_with_message

CLASSES = 266  # 250,000 rows fill a file, so that four times as many fill four


def measure(work: Path, rows: int) -> dict[str, Any]:
    """Return the memory in MB beyond that of the libraries for so many rows, and for four times as many."""
    in_a_process(write_rows, work, rows, CLASSES)
    found = {}
    for number in (rows, 4 * rows):
        outputs = work / f"outputs_{number}"
        outputs.mkdir()
        found[number] = in_a_process(store, work / "tokens", outputs, number, CLASSES)
    small, large = (found[number]["own_memory_mb"] for number in found)
    return {"rows": rows, "own_memory_mb": [small, large], "growth": large / small}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the memory of teacher outputs at two numbers of rows.")
    parser.add_argument("--rows", type=positive, default=250_000, metavar="N", help="of the smaller shard")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        result = {"machine": describe_machine(), **measure(Path(work), options.rows)}
    small, large = result["own_memory_mb"]
    Console().print(f"{options.rows:,} rows: {small:,.0f} MB; four times as many: {large:,.0f} MB")
    write_result(result, options.output)


if __name__ == "__main__":
    exit_with_message(main)
