"""Compare two runs of the same job bit for bit, except for what clocks and processes leave in them."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

UNCOMPARED = re.compile(
    r"[^/]+/[^/]+/(code|\.cache)/.*"  # the snapshot, which only one of the launchers makes, and caches
    r"|.*/(log|tries[^/]*|wandb)/.*"  # what tries say of themselves
    r"|[^/]+/[^/]+/(launch\.lock|submission\.json|environment\.json)"
    r"|.*/(wandb\.json|inputs\.json|dataset_info\.json|state\.json|COMPLETE)"  # times, and names that datasets makes up
)
PRESENT = re.compile(r".*\.(html|png|svg)|.*COMPLETE")
"""Files that must be there; their content shows times."""

TIMED = re.compile(
    r"git|time|starts|finished|.*seconds.*|speed/.*|.*latency.*|.*samples_per_second.*|throughput_ratio|speedup_realised|.*_ms"
)


def differences(expected: Path, found: Path) -> list[str]:
    """Return a line for each difference between two folders of runs, which were made under the same path."""
    wanted, there = _compared(expected), _compared(found)
    lines = [f"{name} is missing" for name in sorted(wanted - there)]
    lines += [f"{name} should not be there" for name in sorted(there - wanted)]
    lines += [f"{path.relative_to(found)} was left behind" for path in found.rglob("*") if ".tmp" in path.name]
    for name in sorted(wanted & there):
        one, other = expected / name, found / name
        if one.is_symlink() or other.is_symlink():
            same = one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
        else:
            same = PRESENT.fullmatch(name) is not None or content(one) == content(other)
        if not same:
            lines.append(f"{name} differs")
    return lines


def _compared(runs: Path) -> set[str]:
    """Return the relative paths of what is compared; of the checkpoints the newest one and the best."""
    names = set()
    for path in runs.rglob("*"):
        name = path.relative_to(runs).as_posix()
        if (path.is_file() or path.is_symlink()) and ".tmp" not in name and not UNCOMPARED.fullmatch(name):
            names.add(name)
        if path.name == "COMPLETE" and path.parent.parent.name != "checkpoints":
            names.add(name)
    return {name for name in names if "/checkpoints/" not in name or _is_kept(runs / name)}


def _is_kept(file: Path) -> bool:
    """Return whether a file belongs to the last checkpoint: which others are kept depends on where a run stopped."""
    return file.parent == max(file.parent.parent.glob("step_*"))


def content(path: Path) -> Any:
    """Return what of a file must be the same."""
    return READERS.get(path.suffix, Path.read_bytes)(path)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if not TIMED.fullmatch(key)}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return None if isinstance(value, int) and value > 10**18 else value  # a time in ns of a file of the run


def _json(path: Path) -> Any:
    value = _without_times(json.loads(path.read_text(encoding="utf-8")))
    if path.name == "results.json":
        value.sort(key=lambda row: row["stage"])  # where stages run at the same time, chance says which ends first
    return value


def _json_lines(path: Path) -> list[Any]:
    """Return the rows; a step that was logged twice is one row too many."""
    return [_without_times(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _table(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).replace_schema_metadata(None)  # it holds the times of the files it is from


def _text(path: Path) -> list[str]:
    return list(_lines_without_times(path.read_text(encoding="utf-8")))


def _lines_without_times(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if not re.search(r"\bms\b|per second", line))


READERS: dict[str, Callable[[Path], Any]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": _table,
    ".md": _text,
}
