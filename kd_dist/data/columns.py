"""Find the columns of labelled files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd_dist.data.records import column_name
from kd_dist.errors import CorpusError, nearest

ROLES = ("label", "text", "text_pair")

LABELS = "labels"  # of a column that is itself a label, and marks the rows that have it

SKIPPED = "-"

ALL_OTHERS = "*"


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
        return {role: name for role, name in self.names if role in ROLES}

    def positions(self) -> dict[str, int]:
        """Return the position of each role in a file without a header."""
        return {role: position for position, (role, _) in enumerate(self.names) if role in ROLES}

    def text_roles(self) -> list[str]:
        """Return the roles of texts."""
        return [role for role in ROLES if role != "label" and role in self.wanted()]

    @property
    def has_label_columns(self) -> bool:
        """Whether each label has a column of its own."""
        return any(role == LABELS for role, _ in self.names)

    def label_columns(self, found: Iterable[str]) -> list[str]:
        """Return the columns that are labels: of `labels:*`, those found that have a name and no other role."""
        named = [name for role, name in self.names if role == LABELS]
        if ALL_OTHERS not in named:
            return named
        others = {name for role, name in self.names if role != LABELS}
        return [name for name in found if name and name not in others]

    def with_label_in_place_of(self, text_role: str, *, by_name: bool) -> str:
        """Return the value of `data.columns` for files whose labels stand where a text was looked for."""
        texts = iter(self.text_roles())
        entries = []
        for role, name in self.names:
            new = role if role == SKIPPED else "label" if role == text_role else next(texts)
            entries.append(f"{new}:{name}" if by_name and name != SKIPPED else new)
        return ",".join(entries)


def parse_columns(columns: Sequence[str]) -> Columns:
    """Parse `data.columns`.

    Raises:
        CorpusError: an unknown role, one that is given twice, no label or text, or both `label` and `labels`.
    """
    names = [(entry.partition(":")[0], entry.partition(":")[2]) for entry in columns]
    roles = [role for role, _ in names if role != SKIPPED]
    for role in roles:
        if role not in (*ROLES, LABELS):
            raise CorpusError(
                f"data.columns: `{role}` is none of {', '.join(ROLES)}, -{nearest(role, (*ROLES, LABELS))} "
                f"(a column of that name is given as text:{role}); columns that are labels are given as labels:NAME or "
                "labels:*"
            )
        if roles.count(role) > 1 and role != LABELS:
            raise CorpusError(f"data.columns names `{role}` twice; put - for a column that is not used")
    given = f"data.columns={','.join(columns)}"
    if LABELS in roles:
        if "label" in roles:
            raise CorpusError(f"{given}: `label` is the column of all labels, `labels` are one column each; give one")
        if (LABELS, "") in names:
            raise CorpusError(f"{given}: name the columns that are labels, labels:NAME, or labels:* for all others")
    elif "label" not in roles:
        raise CorpusError(f"{given} names no `label` (where every label has a column of its own, give labels:*)")
    if "text" not in roles:
        raise CorpusError(f"{given} names no `text`")
    return Columns([(role, name or role) for role, name in names], any(name not in ("", role) for role, name in names))


def columns_in_header(columns: Columns, header: str, first_row: list[str], file: Path) -> dict[str, int] | None:
    """Return the position of each role according to the first row, or None if that is not a header.

    Args:
        header: `yes`, `no` or `auto`, which takes the row for a header when it contains one of the wanted names, or
            when the names differ from the roles.

    Raises:
        CorpusError: a name that is not in the header, or two labels of the same name.
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
    _check_names(columns, found, file)
    return {role: found.index(name) for role, name in wanted.items()}


def _check_names(columns: Columns, found: list[str], file: Path) -> None:
    for role, name in [*columns.wanted().items(), *((LABELS, name) for name in columns.label_columns(found))]:
        if name not in found:
            way_out = f"name it in data.columns ({role}:NAME)" + ("" if columns.by_name else ", or set data.header=no")
            if role == "label":
                way_out += "; where every label has a column of its own, give labels:*"
            raise CorpusError(
                f"{file}, line 1: no column {name!r} in the header ({', '.join(found)[:200]}){nearest(name, found)}; "
                f"{way_out}"
            )
        if role == LABELS and found.count(name) > 1:
            raise CorpusError(f"{file}, line 1: {found.count(name)} columns are called {name!r}, but each is a label")
