"""Keep what was survived as a JSON file, which the documentation shows."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from kd_dist.files import read_json, write_json
from tests.chaos.shaking import Kill


class Figures:
    """The kills that jobs survived with the result of an undisturbed run; None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def add(self, kills: Iterable[Kill], seconds: float) -> None:
        """Add kills, and the seconds that it took to run the job with them to the same result."""
        if self._path is None:
            return
        known = read_json(self._path) if self._path.exists() else {"seconds": 0, "kills": []}
        rows = [{**asdict(kill), "place": kill.place._asdict()} for kill in kills]
        write_json(self._path, {"seconds": round(known["seconds"] + seconds), "kills": [*known["kills"], *rows]})
