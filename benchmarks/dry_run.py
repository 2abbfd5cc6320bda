"""How long a dry run takes, which a login node does: the checks of a job, its stages and an sbatch file.

python benchmarks/dry_run.py --output dry_run.json
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import subprocess
from functools import partial
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.measuring import describe_machine, in_turn, positive, write_result
from kd_dist.config.paths import REPOSITORY
from kd_dist.errors import exit_with_message

JOBS = ("tinybert_general", "fastbert")


def dry_run(job: str, settings: list[str]) -> None:
    """Run a dry run in a process of its own."""
    command = [sys.executable, "launch/slurm.py", "--job", job, "--dry-run", *settings]
    subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)


def measure(rounds: int) -> dict[str, Any]:
    """Return the median seconds of a dry run of each job, with one of the sample files where it needs labels."""
    settings = {"tinybert_general": [], "fastbert": [f"data.train={REPOSITORY / 'examples' / 'reviews.tsv'}"]}
    seconds = in_turn({job: partial(dry_run, job, settings[job]) for job in JOBS}, rounds)
    medians = {job: median(of_job) for job, of_job in seconds.items()}
    return {"median_seconds": medians, "longest": max(medians.values()), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Times dry runs.")
    parser.add_argument("--rounds", type=positive, default=9, metavar="N", help="timed rounds (default: 9)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    result = {"machine": describe_machine(), **measure(options.rounds)}
    Console().print(", ".join(f"{job}: {seconds:.2f} s" for job, seconds in result["median_seconds"].items()))
    write_result(result, options.output)


if __name__ == "__main__":
    exit_with_message(main)
