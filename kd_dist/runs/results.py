"""results.json: what stages have measured."""

from pathlib import Path
from typing import Any

from kd_dist.files import read_json, write_json


def add_result(run_dir: Path, row: dict[str, Any]) -> None:
    """Put a row into the results of its stage, in place of an older one of the same model, seed, split and speed.

    Stages may run at the same time: a file that all of them read and wrote would lose rows.
    """
    path = run_dir / row["stage"] / "results.json"
    path.parent.mkdir(exist_ok=True)
    rows = read_json(path) if path.exists() else []
    identity = ("model", "seed", "split", "speed")
    rows = [old for old in rows if any(old.get(name) != row.get(name) for name in identity)]
    write_json(path, [*rows, row])
    gather_results(run_dir)


def gather_results(run_dir: Path) -> None:
    """Write results.json of the run: the rows of all stages, oldest stage first."""
    files = sorted(run_dir.glob("*/results.json"), key=lambda file: file.stat().st_mtime_ns)
    if files:
        write_json(run_dir / "results.json", [row for file in files for row in read_json(file)])
