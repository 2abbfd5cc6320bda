"""Records: the values that are read together, and the place they were read from."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from kd_dist.data.cleaning import INVISIBLE
from kd_dist.errors import nearest


class Record(NamedTuple):
    """A record of a file: where it is (`line 3` or `record 3`), and its values by column."""

    place: str
    values: dict[str, Any]


def column_name(cell: str) -> str:
    """Return the name of a column in a header, without what is invisible in it."""
    return INVISIBLE.sub("", cell).strip()


def no_column(name: str, found: Iterable[str], way_out: str) -> str:
    """Return an error that says that a column is missing, which columns there are, and what to do."""
    names = list(map(str, found))
    shown = ", ".join(names)[:200] or "none"
    return f"no column {name!r}; the columns are {shown}{nearest(name, names)}; {way_out}"
