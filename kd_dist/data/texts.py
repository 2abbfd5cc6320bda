"""Read texts to label, from every kind of file that training reads labelled rows from."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd_dist.data.cells import Cells, read_cells, records_below_header
from kd_dist.data.columns import LABELS, ROLES, SKIPPED, Columns, columns_in_header
from kd_dist.data.discovery import CELL_SUFFIXES, NAMED_SUFFIXES, format_suffix
from kd_dist.data.lines import numbered_lines
from kd_dist.data.readers import Texts, read_texts
from kd_dist.data.separators import refuse_other_separator, usual_separator
from kd_dist.errors import CorpusError

TEXT_ROLES = ("text", "text_pair")

WAY_OUT = "name the column in --columns or, where there is no header, the columns in order (--columns label,text)"


@dataclass(frozen=True)
class TextColumns:
    """The columns of texts.

    Attributes:
        columns: those of the texts; all others are skipped.
        are_described: whether `--columns` describes them as `data.columns` does, in order or by name, or has their
            names alone, which are in a header.
    """

    columns: Columns
    are_described: bool

    @property
    def names(self) -> list[str]:
        """The names of the columns of the texts."""
        return [self.columns.wanted()[role] for role in self.roles]

    @property
    def roles(self) -> list[str]:
        """`text`, and `text_pair` where the texts are pairs."""
        return self.columns.text_roles()


def parse_text_columns(given: Sequence[str]) -> TextColumns:
    """Parse `--columns`: the names of one or two columns, or the columns as `data.columns` describes them.

    Raises:
        CorpusError: more than two names, or a description in which there is no text or a role comes twice.
    """
    entries = [(entry.partition(":")[0], entry.partition(":")[2]) for entry in given]
    roles = [role for role, _ in entries]
    shown = f"--columns {','.join(given)}"
    if not set(roles) <= {*ROLES, LABELS, SKIPPED}:
        if len(given) > len(TEXT_ROLES):
            raise CorpusError(
                f"{shown}: name one column, or the two of a pair, or describe all: text, text_pair, label, and - for "
                "each that is not used"
            )
        return TextColumns(Columns(list(zip(TEXT_ROLES, given, strict=False)), by_name=True), are_described=False)
    if "text" not in roles or any(roles.count(role) > 1 for role in TEXT_ROLES):
        raise CorpusError(f"{shown}: name `text` once, `text_pair` at most once, and - for each column without use")
    by_name = any(name not in ("", role) for role, name in entries)
    names = [(role if role in TEXT_ROLES else SKIPPED, name or role) for role, name in entries]
    return TextColumns(Columns(names, by_name), are_described=True)


def default_text_columns(pairs: bool) -> TextColumns:
    """Return the columns of texts, or of pairs, where `--columns` is not given: they are called by their roles."""
    return TextColumns(Columns([(role, role) for role in TEXT_ROLES[: 1 + pairs]], by_name=False), are_described=False)


@dataclass(frozen=True)
class TextReader:
    """Read the texts of files.

    Attributes:
        columns: where they are in a record.
        header: whether tables have one, as `data.header`.
        separator: between the columns of tables; None: what is usual.
        note: gets what a user should know.
    """

    columns: TextColumns
    header: str
    separator: str | None
    note: Callable[[str], None]

    def read(self, path: Path, is_document: bool) -> Iterator[Texts]:
        """Yield the texts of every record, of every line of plain text, or of a document, which is one text.

        None is left out: a blank line and a record without a text give empty texts.

        Raises:
            CorpusError: what `read_texts` raises, and a row of a table with other columns.
        """
        if is_document:
            yield self._document(path)
        elif self._is_table(format_suffix(path)):
            yield from self._table(path)
        else:
            yield from read_texts(path, self.columns.names, WAY_OUT)

    def _is_table(self, suffix: str) -> bool:
        """Return whether a file is a table that may have no header; of other files, plain text has no columns."""
        if suffix in NAMED_SUFFIXES:
            return False
        columns = self.columns.columns
        has_others = columns.by_name or len(columns.names) > len(self.columns.roles)
        if self.columns.are_described and (has_others or suffix in CELL_SUFFIXES):
            return True
        return self.separator is not None or (self.header != "auto" and suffix in CELL_SUFFIXES)

    def _document(self, path: Path) -> Texts:
        if len(self.columns.roles) > 1:
            raise CorpusError(f"{path}: a document is one text, expected the two of a pair; give a table of pairs")
        return ("\n".join(line for _, line in numbered_lines(path)),)

    def _table(self, path: Path) -> Iterator[Texts]:
        columns, separator = self.columns.columns, self.separator or usual_separator(path)
        if len(columns.names) > 1:
            refuse_other_separator(path, separator, len(columns.names))
        rows = read_cells(path, separator)
        beginning = list(_up_to_a_filled(rows))
        if not beginning:
            return
        line, first = beginning[-1]
        if (positions := columns_in_header(columns, self.header, first, path)) is not None:
            for _, values in records_below_header(path, rows, positions, len(first)):
                yield tuple(values[role] for role in self.columns.roles)
            return
        if self.header == "auto":
            self.note(f"{path}, line {line} is taken for a text, not for a header; --header yes or no decides")
        yield from self._in_order(path, itertools.chain(beginning, rows))

    def _in_order(self, path: Path, rows: Cells) -> Iterator[Texts]:
        """Yield the texts of a table without a header; an empty line has empty ones."""
        positions, width = self.columns.columns.positions(), len(self.columns.columns.names)
        least = 1 + max(positions.values())
        for line, row in rows:
            if row and (len(row) < least or any(row[width:])):
                raise CorpusError(
                    f"{path}, line {line}: {len(row)} columns, expected {width} (put - in --columns for each that is "
                    "not used)"
                )
            yield tuple(row[positions[role]] if row else "" for role in self.columns.roles)


def _up_to_a_filled(rows: Cells) -> Cells:
    for row in rows:
        yield row
        if row[1]:
            return
