"""Records: the values that are read together, and the place they were read from."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from kd_dist.errors import nearest


class Record(NamedTuple):
    """A record of a file: where it is (`line 3` or `record 3`), and its values by column."""

    place: str
    values: dict[str, Any]


def no_column(name: str, found: Iterable[str], way_out: str) -> str:
    """Return an error that says that a column is missing, which columns there are, and what to do."""
    names = list(map(str, found))
    shown = ", ".join(names)[:200] or "none"
    return f"no column {name!r}; the columns are {shown}{nearest(name, names)}; {way_out}"
