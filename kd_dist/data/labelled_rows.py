"""Read files of labelled texts as raw rows."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kd_dist.config.sections.data import LabelledData
from kd_dist.config.tasks import Task
from kd_dist.data.cells import Cells, read_cells
from kd_dist.data.cleaning import clean
from kd_dist.data.columns import Columns, columns_in_header
from kd_dist.data.discovery import (
    JSON_SUFFIXES,
    NAMED_SUFFIXES,
    each_labelled_file,
    format_suffix,
    is_unlabelled,
)
from kd_dist.data.labels import is_finite_number
from kd_dist.data.lines import numbered_lines
from kd_dist.data.readers import read_records
from kd_dist.data.records import column_name, no_column
from kd_dist.data.separators import refuse_other_separator, usual_separator
from kd_dist.errors import CorpusError

FEW_ROWS = 4  # say nothing about the order of columns

MARKS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}  # in a column that is a label


@dataclass(frozen=True, slots=True)
class RawRow:
    """A cleaned text with its cleaned labels: one, or any number for multi-label rows."""

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

    @property
    def is_first_line(self) -> bool:
        """Whether the row is where a table has its header."""
        return self.place == "line 1" and format_suffix(self.file) not in JSON_SUFFIXES


class Values(NamedTuple):
    """How many values there are in the labels or texts of rows, how many of them differ, and how many are numbers."""

    total: int
    different: int
    numbers: int


class ReadRows(Protocol):
    """Rows in the order in which they were read, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> RawRow: ...

    def values(self, role: str) -> Values:
        """Count what the rows have as `label`, `text` or `text_pair`."""

    def label_counts(self) -> Counter[str]:
        """Return how many rows have each label."""

    def first_lines(self) -> list[RawRow]:
        """Return the rows that are the first line of a table of more than two rows."""


class RowList(list[RawRow]):
    """Rows in memory."""

    def values(self, role: str) -> Values:
        if role == "label":
            found = [label for row in self for label in row.labels]
        else:
            found = [getattr(row, role) for row in self]
        return Values(len(found), len(set(found)), sum(map(is_finite_number, found)))

    def label_counts(self) -> Counter[str]:
        return Counter(label for row in self for label in row.labels)

    def first_lines(self) -> list[RawRow]:
        sizes = Counter(row.file for row in self)
        return [row for row in self if row.is_first_line and sizes[row.file] > 2]


class Problem(NamedTuple):
    """Why a record cannot be a row: the reason, by which bad rows are counted, and the message."""

    reason: str
    message: str


class Entry(NamedTuple):
    """What is to become a row: a record of a table, or a document, whose text is read when it becomes one.

    `values` are by role instead of column (None: no value), and only the label of a document.
    """

    file: Path
    place: str
    values: dict[str, Any] | Problem

    def is_document(self) -> bool:
        return isinstance(self.values, dict) and self.values.keys() == {"label"}


DOCUMENT = "line 1"  # its place

Records = Iterator[tuple[str, dict[str, Any] | Problem]]


@dataclass
class BadRows:
    """Handle rows that cannot be used: they raise an error or, if they are skipped, are counted by reason."""

    skip: bool
    counts: Counter[str] = field(default_factory=Counter)

    def refuse(self, reason: str, message: str, count: int = 1) -> None:
        """Count rows under a reason.

        Raises:
            CorpusError: with the message, unless bad rows are skipped.
        """
        if not self.skip:
            raise CorpusError(f"{message}; data.bad_rows=skip leaves such rows out and counts them")
        self.counts[reason] += count


def left_out(counts: Counter[str]) -> str:
    """Describe how many rows were skipped and why: `left out: 3 x empty text, ...`."""
    return f"left out: {', '.join(f'{count:,} x {reason}' for reason, count in counts.most_common())}"


@dataclass(frozen=True)
class RowReader:
    """Read the rows of files.

    Attributes:
        data: the settings.
        columns: what `data.columns` says.
        bad_rows: gets the rows that cannot be used.
        spellings: counts the labels as the files write them, before they are cleaned; a label with a column of its own
            is there even if no row has it.
    """

    data: LabelledData
    columns: Columns
    bad_rows: BadRows
    spellings: Counter[str] = field(default_factory=Counter)

    def read(self, patterns: Sequence[str]) -> RowList:
        """Return the rows of files, folders and globs (see `labelled_files`), in order, with cleaned texts.

        Raises:
            CorpusError: a pattern that matches nothing, a file that cannot be read, a missing column, a row without
                label or text (unless bad rows are skipped), and no row at all.
        """
        rows = RowList(row for entry in self.entries(patterns) if (row := self.row(entry)))
        refuse_no_rows(len(rows), patterns, self.bad_rows)
        return rows

    def entries(self, patterns: Sequence[str]) -> Iterator[Entry]:
        """Yield what is in files, folders and globs, in order: what is wrong with a record is told by its row.

        Raises:
            CorpusError: a pattern that matches nothing, a file that cannot be read, or a table without a column.
        """
        for file, label in each_labelled_file(patterns):
            if label is None:
                yield from (Entry(file, place, values) for place, values in self._records(file))
            else:
                yield Entry(file, DOCUMENT, {"label": label})

    def row(self, entry: Entry) -> RawRow | None:
        """Return the row of an entry, or None for a bad one that is skipped.

        Raises:
            CorpusError: the entry is no row (unless bad rows are skipped), or a document that cannot be read.
        """
        values = entry.values
        if isinstance(values, dict) and entry.is_document():
            if is_unlabelled(values["label"]):
                self.bad_rows.counts[f"document in a folder {values['label']!r}, which is no class"] += 1
                return None
            values = values | {"text": "\n".join(line for _, line in numbered_lines(entry.file))}
        found = values if isinstance(values, Problem) else self._texts_and_labels(values)
        if isinstance(found, Problem):
            self.bad_rows.refuse(found.reason, f"{entry.file}, {entry.place}: {found.message}")
            return None
        texts, labels = found
        return RawRow(texts["text"], texts.get("text_pair"), labels, entry.file, entry.place)

    def _records(self, file: Path) -> Records:
        if format_suffix(file) in NAMED_SUFFIXES:
            return self._named_records(file)
        separator = checked_separator(file, self.data, self.columns)
        return self._table_records(file, ((line, cells) for line, cells in read_cells(file, separator) if cells))

    def _texts_and_labels(self, values: dict[str, Any]) -> tuple[dict[str, str], tuple[str, ...]] | Problem:
        texts = {role: clean(text) for role, text in values.items() if role != "label" and isinstance(text, str)}
        if problem := self._problem(values | texts):
            return problem
        spellings = self._spellings(values["label"])
        labels = tuple(dict.fromkeys(filter(None, map(clean, spellings))))
        if len(labels) != 1 and self.data.task != "multi_label":
            message = f"{len(labels)} labels, expected one (data.task={self.data.task}; multi_label takes any number)"
            return Problem("no single label", message)
        self.spellings.update(list(dict.fromkeys(spellings)))
        return texts, labels

    def _problem(self, values: dict[str, Any]) -> Problem | None:
        for role, name in self.columns.wanted().items():
            value = values.get(role)
            if value is None:
                return Problem("missing value", f"no value in {name!r}")
            if role == "label" and not all(map(_is_label, value if isinstance(value, list) else [value])):
                return Problem(
                    "not a label", f"{name!r} holds {value!r}"[:200] + ", expected a name or a finite number"
                )
            if role != "label" and not isinstance(value, str):
                return Problem("not a text", f"{name!r} holds {type(value).__name__}, expected text")
            if role != "label" and not value:
                return Problem("empty text", f"{name!r} is empty")
        return _marks_problem(values["label"]) if self.columns.has_label_columns else None

    def _spellings(self, value: Any) -> list[str]:
        """Return the labels of a row as the file writes them."""
        if self.columns.has_label_columns:
            return [name for name, mark in value.items() if MARKS[_mark(mark)]]
        if isinstance(value, str) and self.data.task == "multi_label":
            value = [part.strip() for part in value.split(self.data.label_separator)]
        return [_label_name(item) for item in (value if isinstance(value, list) else [value])]

    def _table_records(self, file: Path, cells: Cells) -> Records:
        line, first_row = next(cells, (0, []))
        if not line:
            return
        positions = columns_in_header(self.columns, self.data.header, first_row, file)
        label_positions = self._label_positions(list(map(column_name, first_row)))
        width = len(self.columns.names) if positions is None else len(first_row)
        rows = itertools.chain([(line, first_row)], cells) if positions is None else cells
        positions = positions or self.columns.positions()
        last = max([*positions.values(), *label_positions.values()])
        for line, row in rows:
            problem = _width_problem(row, width, last)
            if row == first_row and rows is cells:
                problem = Problem("repeated header", "the header again, as in files that were joined")
            elif problem and row is first_row and len(row) > width:
                problem = Problem(
                    problem.reason,
                    f"{problem.message}; if this is a header, name the columns as they are called there, "
                    "data.columns=label:NAME,text:NAME or, where every label has a column of its own, text:NAME,"
                    "labels:*",
                )
            values: dict[str, Any] = {}
            if not problem:
                values |= {role: row[position] for role, position in positions.items()}
                if self.columns.has_label_columns:
                    values["label"] = {name: row[position] for name, position in label_positions.items()}
            yield f"line {line}", problem or values

    def _label_positions(self, header: list[str]) -> dict[str, int]:
        """Return the position of each column that is a label, and remember the label."""
        names = self.columns.label_columns(header)
        self.spellings.update(dict.fromkeys(names, 0))
        return {name: header.index(name) for name in names}

    def _named_records(self, file: Path) -> Records:
        wanted, way_out = self.columns.wanted(), "name it in data.columns (label:NAME,text:NAME)"
        columns = None if self.columns.has_label_columns else list(wanted.values())
        for place, values in read_records(file, columns, way_out):
            labels = self.columns.label_columns(values)
            if missing := [name for name in (*wanted.values(), *labels) if name not in values]:
                yield place, Problem("missing column", no_column(missing[0], values, way_out))
                continue
            by_role = {role: values[name] for role, name in wanted.items()}
            if self.columns.has_label_columns:
                self.spellings.update(dict.fromkeys(labels, 0))
                by_role["label"] = {name: values[name] for name in labels}
            yield place, by_role


def checked_separator(file: Path, data: LabelledData, columns: Columns) -> str:
    """Return what separates the columns of a table.

    Raises:
        CorpusError: its first lines have another separator.
    """
    separator = data.separator or usual_separator(file)
    refuse_other_separator(file, separator, max(2, len(columns.wanted())))
    return separator


def _width_problem(row: list[str], width: int, last: int) -> Problem | None:
    """Return what is wrong with the number of cells of a row; `last` is the place of the last that is needed."""
    if len(row) <= last:
        return Problem("missing column", f"{len(row)} columns, expected {width}")
    if any(row[width:]):
        message = f"{len(row)} columns, expected {width} (put - in data.columns for each that is not used)"
        return Problem("too many columns", message)
    return None


def _is_label(value: Any) -> bool:
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def _label_name(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables with missing values store integers as 1.0
    return str(value)


def _mark(value: Any) -> str:
    return str(value).strip().lower()


def _marks_problem(marks: dict[str, Any]) -> Problem | None:
    """Return what is wrong if a column that is a label does not say whether the row has it."""
    for name, mark in marks.items():
        if _mark(mark) not in MARKS:
            message = f"the label {name!r} holds {mark!r}"[:200]
            return Problem("not 0 or 1", f"{message}, expected 0 or 1 (-:{name} in data.columns, if it is no label)")
    return None


def refuse_no_rows(num_rows: int, patterns: Sequence[str], bad_rows: BadRows) -> None:
    """Refuse files in which there is no row.

    Raises:
        CorpusError: there is none; the message says how many bad ones there are.
    """
    if not num_rows:
        skipped = f" ({bad_rows.counts.total():,} bad ones left out)" if bad_rows.counts else ""
        raise CorpusError(f"no labelled row in {', '.join(patterns)}{skipped}")


def refuse_swapped_columns(rows: ReadRows, data: LabelledData, columns: Columns) -> None:
    """Refuse rows with a text for a label and a label for a text, as those of files in another order of columns.

    Raises:
        CorpusError: the labels are nearly all different and the texts nearly all alike or, for regression, the texts
            are the numbers.
    """
    if len(rows) < FEW_ROWS or not _are_texts(labels := rows.values("label"), data.task):
        return
    for role in columns.text_roles():
        if not _are_texts(texts := rows.values(role), data.task):
            first = rows[0]
            label = next(iter(first.labels), "")
            by_name = columns.by_name or not first.is_first_line
            raise CorpusError(
                f"{first.where}: the label is {label[:40]!r}, the text {getattr(first, role)[:40]!r}; of {len(rows):,} "
                f"rows {labels.different:,} labels and {texts.different:,} texts differ, so the columns seem to be in "
                f"another order: set data.columns={columns.with_label_in_place_of(role, by_name=by_name)}"
            )


def _are_texts(values: Values, task: Task) -> bool:
    """Return whether most are no numbers, or most are different where labels are names."""
    unusual = values.numbers if task == "regression" else values.total - values.different
    return 2 * unusual < values.total


def refuse_header_as_row(rows: ReadRows, data: LabelledData) -> None:
    """Refuse a header that was read as a row: the first line of a table, with a label that no other row has.

    Where labels are numbers or come from a file of names, a header is refused as an unknown label instead.

    Raises:
        CorpusError: there is such a line.
    """
    if data.header != "auto" or data.task == "regression" or data.label_names:
        return
    firsts = rows.first_lines()
    others = rows.label_counts()
    others.subtract(label for row in firsts for label in row.labels)
    for row in firsts:
        if row.labels and not any(others[label] for label in row.labels):
            raise CorpusError(
                f"{row.where}: no other row has the label {row.labels[0]!r}, so this looks like a header: name the "
                "columns as they are called there (data.columns=label:NAME,text:NAME), or set data.header=no"
            )
