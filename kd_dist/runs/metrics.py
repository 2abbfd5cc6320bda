"""metrics.jsonl, as it is read."""

import json
import math
from pathlib import Path
from typing import Any

from kd_dist.errors import RunError


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl file; a last line that was not written to its end is left out.

    Raises:
        RunError: a line before the last is no JSON object.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    lines.pop()  # empty after a whole last line, else the half-written one
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
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def finite_or_none(value: Any) -> Any:
    """Return the value, or None in place of a float that strict JSON and W&B tables cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
