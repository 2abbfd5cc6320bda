"""Tell by which characters the columns of a table are separated."""

import itertools
import re
import shlex
from pathlib import Path

from kd_dist.data.discovery import format_suffix
from kd_dist.data.lines import numbered_lines
from kd_dist.errors import CorpusError

SAMPLE_LINES = 50

# Longer ones first: `|` is in `||`.
_NEVER_IN_TEXT = ("_!_", "|||", "||", "\t", "\x01")
_RARE_IN_TEXT = ("|", ";", "^", "::", ",")


def usual_separator(path: Path) -> str:
    """Return what separates the columns of a file unless a setting says otherwise: commas in csv, else tabs."""
    return "," if format_suffix(path) == ".csv" else "\t"


def require_separator(option: str, separator: str | None) -> None:
    """Raise CorpusError if what was given to an option of a command cannot separate columns."""
    if set(separator or "") & set('"\r\n'):
        raise CorpusError(f"{option}: neither quotes nor line ends can separate columns")


def refuse_other_separator(
    path: Path, separator: str, num_columns: int, *, where: str | None = None, way_out: str | None = None
) -> None:
    """Refuse a table whose first lines do not have the columns, but have them with another separator.

    Args:
        path: the table.
        separator: what the columns should be separated by.
        num_columns: how many there should be, at least.
        where: the place that the message names; None: the path.
        way_out: the end of the message; None: the setting that names the separator.

    Raises:
        CorpusError: it is so; the message names the separator that was found.
    """
    found = other_separator(path, separator, num_columns)
    if found:
        raise CorpusError(
            f"{where or path}: the columns seem to be separated by {in_words(found)}, expected {in_words(separator)}; "
            f"{way_out or f'set data.separator={_typed(found)}'}"
        )


def other_separator(path: Path, separator: str, num_columns: int) -> str | None:
    """Return the separator that the first lines of a file have in place of `separator`, if it is another one.

    One that never occurs in text is enough if there are equally many in each line and not of `separator`. Others count
    only where `separator` does not make equal columns of most lines, and they would make columns of most.
    """
    lines = _first_lines(path)
    borders = num_columns - 1

    def are_equal(counts: list[int]) -> bool:
        return len(set(counts)) <= 1 and min(counts, default=borders) >= borders

    own = [line.count(separator) for line in lines]
    if are_equal(own):
        return None
    counts = {other: [line.count(other) for line in lines] for other in _NEVER_IN_TEXT + _RARE_IN_TEXT}
    found = [other for other in _NEVER_IN_TEXT if are_equal(counts[other])]
    if not found and 2 * max((own.count(number) for number in own if number >= borders), default=0) <= len(own):
        fit = {other: sum(number >= borders for number in counts[other]) for other in counts if other != separator}
        best_first = sorted(fit, key=lambda other: (other == ",", -fit[other]))  # commas are in most texts
        found = [other for other in best_first if 2 * fit[other] > len(lines)]
        if not found and all(line.count(" ") == borders for line in lines):
            found = [" "]
    return found[0] if found else None


def _first_lines(path: Path) -> list[str]:
    """Return the first lines that are not empty, of csv without what stands in quotes, which may go over several."""
    if not path.is_file():  # a pipe, which can be read once only
        return []
    lines = [line for _, line in itertools.islice(numbered_lines(path), SAMPLE_LINES)]
    if format_suffix(path) == ".csv":
        lines = re.sub('"[^"]*"', "", "\n".join(lines)).split("\n")
    return [line for line in lines if line.strip()]


def in_words(separator: str) -> str:
    """Return the name of a separator for a message."""
    return {"\t": "tabs", " ": "spaces", ",": "commas", ";": "semicolons"}.get(separator, repr(separator))


def _typed(separator: str) -> str:
    """Return a separator as it is typed in a shell."""
    if separator == "\t":
        return r"'\t'"
    return shlex.quote(separator) if separator.isprintable() else f"${ascii(separator)}"
