"""Find the columns of labelled files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kd_dist.data.records import column_name
from kd_dist.errors import CorpusError, nearest

ROLES = ("label", "text", "text_pair")

SKIPPED = "-"


@dataclass(frozen=True)
class Columns:
    """The columns that `data.columns` describes.

    Attributes:
        names: (role, column name) of every column, in order; the role `-` is not read.
        by_name: whether a column has another name than its role, so that only a header tells where it is.
    """

    names: list[tuple[str, str]]
    by_name: bool

    def wanted(self) -> dict[str, str]:
        """Return the column name of each role."""
        return {role: name for role, name in self.names if role != SKIPPED}

    def positions(self) -> dict[str, int]:
        """Return the position of each role in a file without a header."""
        return {role: position for position, (role, _) in enumerate(self.names) if role != SKIPPED}


def parse_columns(columns: Sequence[str]) -> Columns:
    """Parse `data.columns`.

    Raises:
        CorpusError: an unknown role, one that is given twice, or no label or text.
    """
    names = [(entry.partition(":")[0], entry.partition(":")[2]) for entry in columns]
    roles = [role for role, _ in names if role != SKIPPED]
    for role in roles:
        if role not in ROLES:
            raise CorpusError(
                f"data.columns: `{role}` is none of {', '.join(ROLES)}, -{nearest(role, ROLES)} "
                f"(a column of that name is given as text:{role})"
            )
        if roles.count(role) > 1:
            raise CorpusError(f"data.columns names `{role}` twice; put - for a column that is not used")
    if missing := [role for role in ("label", "text") if role not in roles]:
        raise CorpusError(f"data.columns={','.join(columns)} names no `{missing[0]}`")
    return Columns([(role, name or role) for role, name in names], any(name not in ("", role) for role, name in names))


def columns_in_header(columns: Columns, header: str, first_row: list[str], file: Path) -> dict[str, int] | None:
    """Return the position of each role according to the first row, or None if that is not a header.

    Args:
        header: `yes`, `no` or `auto`, which takes the row for a header when it contains one of the wanted names, or
            when the names differ from the roles.

    Raises:
        CorpusError: a name that is not in the header.
    """
    found, wanted = list(map(column_name, first_row)), columns.wanted()
    if header == "no":
        if columns.by_name:
            raise CorpusError("data.columns names columns, which data.header=no rules out: give the roles in order")
        return None
    # In any case, or a header would become a row.
    looks_like_one = {name.lower() for name in found} & {name.lower() for name in wanted.values()}
    if header == "auto" and not columns.by_name and not looks_like_one:
        return None
    for role, name in wanted.items():
        if name not in found:
            way_out = f"name it in data.columns ({role}:NAME)" + ("" if columns.by_name else ", or set data.header=no")
            raise CorpusError(
                f"{file}, line 1: no column {name!r} in the header ({', '.join(found)[:200]}){nearest(name, found)}; "
                f"{way_out}"
            )
    return {role: found.index(name) for role, name in wanted.items()}
