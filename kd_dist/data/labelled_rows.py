"""Read files of labelled texts as raw rows."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd_dist.config.sections.data import LabelledData
from kd_dist.config.tasks import Task
from kd_dist.data.cells import Cells, read_cells
from kd_dist.data.cleaning import clean
from kd_dist.data.columns import Columns, columns_in_header
from kd_dist.data.discovery import JSON_SUFFIXES, NAMED_SUFFIXES, format_suffix, is_unlabelled, labelled_files
from kd_dist.data.labels import is_finite_number
from kd_dist.data.lines import numbered_lines
from kd_dist.data.readers import read_records
from kd_dist.data.records import Record, column_name, no_column
from kd_dist.data.separators import refuse_other_separator, usual_separator
from kd_dist.errors import CorpusError

FEW_ROWS = 4  # say nothing about the order of columns

Records = Iterator[Record]  # with values by role instead of column; None: no value

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

    def read(self, patterns: Sequence[str]) -> list[RawRow]:
        """Return the rows of files, folders and globs (see `labelled_files`), in order, with cleaned texts.

        Raises:
            CorpusError: a pattern that matches nothing, a file that cannot be read, a missing column, a row without
                label or text (unless bad rows are skipped), and no row at all.
        """
        rows: list[RawRow] = []
        for file, label in labelled_files(patterns):
            if is_unlabelled(label):
                self.bad_rows.counts[f"document in a folder {label!r}, which is no class"] += 1
                continue
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
        problem = self._problem(values | texts)
        spellings = [] if problem else self._spellings(values["label"])
        labels = tuple(dict.fromkeys(filter(None, map(clean, spellings))))
        if not problem and len(labels) != 1 and self.data.task != "multi_label":
            message = f"{len(labels)} labels, expected one (data.task={self.data.task}; multi_label takes any number)"
            problem = "no single label", message
        if problem:
            self._refuse(file, place, *problem)
            return None
        self.spellings.update(list(dict.fromkeys(spellings)))
        return RawRow(texts["text"], texts.get("text_pair"), labels, file, place)

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
        return _marks_problem(values["label"]) if self.columns.has_label_columns else None

    def _refuse(self, file: Path, place: str, reason: str, message: str) -> None:
        self.bad_rows.refuse(reason, f"{file}, {place}: {message}")

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
        for line, row in rows:
            if row == first_row and rows is cells:
                self._refuse(file, f"line {line}", "repeated header", "the header again, as in files that were joined")
            elif len(row) <= max([*positions.values(), *label_positions.values()]):
                self._refuse(file, f"line {line}", "missing column", f"{len(row)} columns, expected {width}")
            elif any(row[width:]):
                message = f"{len(row)} columns, expected {width} (put - in data.columns for each that is not used)"
                if row is first_row:
                    message += (
                        "; if this is a header, name the columns as they are called there, data.columns=label:NAME,"
                        "text:NAME or, where every label has a column of its own, text:NAME,labels:*"
                    )
                self._refuse(file, f"line {line}", "too many columns", message)
            else:
                values: dict[str, Any] = {role: row[position] for role, position in positions.items()}
                if self.columns.has_label_columns:
                    values["label"] = {name: row[position] for name, position in label_positions.items()}
                yield Record(f"line {line}", values)

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
                self._refuse(file, place, "missing column", no_column(missing[0], values, way_out))
                continue
            by_role = {role: values[name] for role, name in wanted.items()}
            if self.columns.has_label_columns:
                self.spellings.update(dict.fromkeys(labels, 0))
                by_role["label"] = {name: values[name] for name in labels}
            yield Record(place, by_role)


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
    return str(value)


def _mark(value: Any) -> str:
    return str(value).strip().lower()


def _marks_problem(marks: dict[str, Any]) -> tuple[str, str] | None:
    """Return (reason, message) if a column that is a label does not say whether the row has it."""
    for name, mark in marks.items():
        if _mark(mark) not in MARKS:
            message = f"the label {name!r} holds {mark!r}"[:200]
            return "not 0 or 1", f"{message}, expected 0 or 1 (-:{name} in data.columns, if it is no label)"
    return None


def refuse_swapped_columns(rows: Sequence[RawRow], data: LabelledData, columns: Columns) -> None:
    """Refuse rows with a text for a label and a label for a text, as those of files in another order of columns.

    Raises:
        CorpusError: the labels are nearly all different and the texts nearly all alike or, for regression, the texts
            are the numbers.
    """
    labels = [label for row in rows for label in row.labels]
    if len(rows) < FEW_ROWS or not _are_texts(labels, data.task):
        return
    for role in columns.text_roles():
        texts = [getattr(row, role) for row in rows]
        if not _are_texts(texts, data.task):
            by_name = columns.by_name or not _is_first_line(rows[0])
            raise CorpusError(
                f"{rows[0].where}: the label is {labels[0][:40]!r}, the text {texts[0][:40]!r}; of {len(rows):,} rows "
                f"{len(set(labels)):,} labels and {len(set(texts)):,} texts differ, so the columns seem to be in "
                f"another order: set data.columns={columns.with_label_in_place_of(role, by_name=by_name)}"
            )


def _are_texts(values: Sequence[str], task: Task) -> bool:
    """Return whether most are no numbers, or most are different where labels are names."""
    if task == "regression":
        return 2 * sum(map(is_finite_number, values)) < len(values)
    return 2 * len(set(values)) > len(values)


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
