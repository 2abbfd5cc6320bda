"""Read files of labelled texts as raw rows."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.cells import Cells, read_cells
from kd_dist.data.cleaning import clean
from kd_dist.data.columns import Columns, columns_in_header
from kd_dist.data.discovery import JSON_SUFFIXES, NAMED_SUFFIXES, format_suffix, labelled_files
from kd_dist.data.lines import numbered_lines
from kd_dist.data.readers import read_records
from kd_dist.data.records import Record, no_column
from kd_dist.data.separators import refuse_other_separator, usual_separator
from kd_dist.errors import CorpusError

Records = Iterator[Record]  # with values by role instead of column; None: no value


@dataclass(frozen=True, slots=True)
class RawRow:
    """A cleaned text with its labels as the file has them: one, or any number for multi-label rows."""

    text: str
    text_pair: str | None
    labels: tuple[str, ...]
    file: Path
    place: str  # `line 3` or `record 3`

    @property
    def key(self) -> tuple[str, str | None]:
        """The texts, by which rows are compared."""
        return self.text, self.text_pair

    @property
    def where(self) -> str:
        """The file and the place in it."""
        return f"{self.file}, {self.place}"


@dataclass
class BadRows:
    """Handle rows that cannot be used: they raise an error or, if they are skipped, are counted by reason."""

    skip: bool
    counts: Counter[str] = field(default_factory=Counter)

    def refuse(self, reason: str, message: str) -> None:
        """Count a row under a reason.

        Raises:
            CorpusError: with the message, unless bad rows are skipped.
        """
        if not self.skip:
            raise CorpusError(f"{message}; data.bad_rows=skip leaves such rows out and counts them")
        self.counts[reason] += 1


def left_out(counts: Counter[str]) -> str:
    """Describe how many rows were skipped and why: `left out: 3 x empty text, ...`."""
    return f"left out: {', '.join(f'{count:,} x {reason}' for reason, count in counts.most_common())}"


@dataclass(frozen=True)
class RowReader:
    """Read the rows of files; those that cannot be used go to `bad_rows`."""

    data: LabelledData
    columns: Columns
    bad_rows: BadRows

    def read(self, patterns: Sequence[str]) -> list[RawRow]:
        """Return the rows of files, folders and globs (see `labelled_files`), in order, with cleaned texts.

        Raises:
            CorpusError: a pattern that matches nothing, a file that cannot be read, a missing column, a row without
                label or text (unless bad rows are skipped), and no row at all.
        """
        rows: list[RawRow] = []
        for file, label in labelled_files(patterns):
            for place, values in self._records(file) if label is None else _document(file, label):
                row = self._row(file, place, values)
                rows += [row] if row else []
        if not rows:
            skipped = f" ({self.bad_rows.counts.total():,} bad ones left out)" if self.bad_rows.counts else ""
            raise CorpusError(f"no labelled row in {', '.join(patterns)}{skipped}")
        return rows

    def _records(self, file: Path) -> Records:
        if format_suffix(file) in NAMED_SUFFIXES:
            return self._named_records(file)
        separator = checked_separator(file, self.data, self.columns)
        return self._table_records(file, ((line, cells) for line, cells in read_cells(file, separator) if cells))

    def _row(self, file: Path, place: str, values: dict[str, Any]) -> RawRow | None:
        """Return the row of a record, or None for a bad one that is skipped."""
        texts = {role: clean(text) for role, text in values.items() if role != "label" and isinstance(text, str)}
        if problem := self._problem(values | texts):
            self._refuse(file, place, *problem)
            return None
        return RawRow(texts["text"], texts.get("text_pair"), self._labels(values["label"]), file, place)

    def _problem(self, values: dict[str, Any]) -> tuple[str, str] | None:
        """Return (reason, message) if a record cannot be a row."""
        for role, name in self.columns.wanted().items():
            value = values.get(role)
            if value is None:
                return "missing value", f"no value in {name!r}"
            if role == "label" and not all(map(_is_label, value if isinstance(value, list) else [value])):
                return "not a label", f"{name!r} holds {value!r}"[:200] + ", expected a name or a finite number"
            if role != "label" and not isinstance(value, str):
                return "not a text", f"{name!r} holds {type(value).__name__}, expected text"
            if role != "label" and not value:
                return "empty text", f"{name!r} is empty"
        num_labels = len(self._labels(values["label"]))
        if num_labels != 1 and self.data.task != "multi_label":
            return "no single label", f"{num_labels} labels, expected one (data.task={self.data.task})"
        return None

    def _refuse(self, file: Path, place: str, reason: str, message: str) -> None:
        self.bad_rows.refuse(reason, f"{file}, {place}: {message}")

    def _labels(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str) and self.data.task == "multi_label":
            value = value.split(self.data.label_separator)
        names = map(_label_name, value if isinstance(value, list) else [value])
        return tuple(dict.fromkeys(name for name in names if name))

    def _table_records(self, file: Path, cells: Cells) -> Records:
        line, first_row = next(cells, (0, []))
        if not line:
            return
        positions = columns_in_header(self.columns, self.data.header, first_row, file)
        width = len(self.columns.names) if positions is None else len(first_row)
        rows = itertools.chain([(line, first_row)], cells) if positions is None else cells
        positions = positions or self.columns.positions()
        for line, row in rows:
            if row == first_row and rows is cells:
                self._refuse(file, f"line {line}", "repeated header", "the header again, as in files that were joined")
            elif len(row) <= max(positions.values()):
                self._refuse(file, f"line {line}", "missing column", f"{len(row)} columns, expected {width}")
            elif any(row[width:]):
                way_out = "put - in data.columns for each that is not used"
                message = f"{len(row)} columns, expected {width} ({way_out})"
                self._refuse(file, f"line {line}", "too many columns", message)
            else:
                yield Record(f"line {line}", {role: row[position] for role, position in positions.items()})

    def _named_records(self, file: Path) -> Records:
        wanted, way_out = self.columns.wanted(), "name it in data.columns (label:NAME,text:NAME)"
        for place, values in read_records(file, list(wanted.values()), way_out):
            missing = [name for name in wanted.values() if name not in values]
            if missing:
                self._refuse(file, place, "missing column", no_column(missing[0], values, way_out))
            else:
                yield Record(place, {role: values[name] for role, name in wanted.items()})


def checked_separator(file: Path, data: LabelledData, columns: Columns) -> str:
    """Return what separates the columns of a table.

    Raises:
        CorpusError: its first lines have another separator.
    """
    separator = data.separator or usual_separator(file)
    refuse_other_separator(file, separator, max(2, len(columns.wanted())))
    return separator


def _is_label(value: Any) -> bool:
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def _label_name(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables with missing values store integers as 1.0
    return clean(str(value))


def refuse_header_as_row(rows: Sequence[RawRow], data: LabelledData) -> None:
    """Refuse a header that was read as a row: the first line of a table, with a label that no other row has.

    Where labels are numbers or come from a file of names, a header is refused as an unknown label instead.

    Raises:
        CorpusError: there is such a line.
    """
    if data.header != "auto" or data.task == "regression" or data.label_names:
        return
    sizes = Counter(row.file for row in rows)
    firsts = {id(row): row for row in rows if _is_first_line(row) and sizes[row.file] > 2}
    others = {label for row in rows if id(row) not in firsts for label in row.labels}
    for row in firsts.values():
        if row.labels and others.isdisjoint(row.labels):
            raise CorpusError(
                f"{row.where}: no other row has the label {row.labels[0]!r}, so this looks like a header: name the "
                "columns as they are called there (data.columns=label:NAME,text:NAME), or set data.header=no"
            )


def _is_first_line(row: RawRow) -> bool:
    return row.place == "line 1" and format_suffix(row.file) not in JSON_SUFFIXES


def _document(file: Path, label: str) -> Records:
    yield Record("line 1", {"label": label, "text": "\n".join(line for _, line in numbered_lines(file))})
