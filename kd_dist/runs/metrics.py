"""Read metrics.jsonl."""

import json
import math
from pathlib import Path
from typing import Any

from kd_dist.errors import RunError


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.jsonl file, without an incomplete last line.

    Raises:
        RunError: An earlier line is not a JSON object with a step.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    lines.pop()  # empty if the last line is complete, else the incomplete line
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or "global_step" not in row:
            raise RunError(f"{path}:{number}: expected a JSON object with global_step, found {line[:80]!r}")
        rows.append(row)
    return rows


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Return whether a value is a number, and neither infinite nor NaN."""
    return is_number(value) and math.isfinite(value)


def finite_or_none(value: Any) -> Any:
    """Return the value, or None in place of a float that strict JSON and W&B tables cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
