"""Keep what was survived in a file of JSON lines, which the documentation shows."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tests.chaos.shaking import Kill


class Figures:
    """The kills that jobs survived with the result of an undisturbed run; None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def add(self, kills: Iterable[Kill]) -> None:
        """Add kills, one a line."""
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8") as file:
                for kill in kills:
                    row = asdict(kill)
                    file.write(json.dumps(row | row.pop("place")._asdict()) + "\n")
