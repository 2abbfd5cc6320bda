"""results.json: what stages have measured."""

from pathlib import Path
from typing import Any

from kd_dist.files import read_json, write_json


def add_result(run_dir: Path, *rows: dict[str, Any]) -> None:
    """Put rows into the results of their stage, in place of older ones of the same model, seed, split and speed.

    Each stage has a file of its own: stages may run at the same time, and would lose rows of one that all of them
    read and wrote.

    Args:
        run_dir: the run's folder.
        rows: of one stage, which `stage` names.
    """
    path = run_dir / rows[0]["stage"] / "results.json"
    path.parent.mkdir(exist_ok=True)
    new = {_identity(row) for row in rows}
    kept = [old for old in (read_json(path) if path.exists() else []) if _identity(old) not in new]
    write_json(path, [*kept, *rows])
    gather_results(run_dir)


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("model", "seed", "split", "speed"))


def gather_results(run_dir: Path) -> None:
    """Write results.json of the run: the rows of all stages, in the order of the job.

    The times of the files would not do: stages may run on machines whose clocks differ.
    """
    files, job = list(run_dir.glob("*/results.json")), run_dir / "job.json"
    order = list(read_json(job)["stages"]) if job.exists() else []
    places = {name: place for place, name in enumerate(order)}
    files.sort(key=lambda file: (places.get(file.parent.name, len(order)), file.parent.name))
    if files:
        write_json(run_dir / "results.json", [row for file in files for row in read_json(file)])
