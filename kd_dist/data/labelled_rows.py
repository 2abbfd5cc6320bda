"""Files of labelled texts to raw rows."""

import csv
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.cleaning import clean
from kd_dist.data.columns import Columns, columns_in_header
from kd_dist.data.discovery import kind, labelled_files
from kd_dist.data.readers import damage_explained, numbered_lines, open_bytes, table_damage_explained
from kd_dist.errors import CorpusError, nearest

Cells = Iterator[tuple[int, list[str]]]  # line, cells by position

Records = Iterator[tuple[str, dict[str, Any]]]  # place, values by role; None or left out: not there


@dataclass(frozen=True, slots=True)
class RawRow:
    """A cleaned text with the labels that the file gives it: one, or any number in a multi-label row."""

    text: str
    text_pair: str | None
    labels: tuple[str, ...]
    file: Path
    place: str  # `line 3` or `record 3`

    @property
    def key(self) -> tuple[str, str | None]:
        """Rows of equal keys hold the same text."""
        return self.text, self.text_pair

    @property
    def where(self) -> str:
        return f"{self.file}, {self.place}"


@dataclass
class BadRows:
    """What becomes of a row that cannot be used: the end of the work, or a count by reason."""

    skip: bool
    counts: Counter[str] = field(default_factory=Counter)

    def refuse(self, reason: str, message: str) -> None:
        """Count the row under `reason`; raises CorpusError with `message` unless bad rows are skipped."""
        if not self.skip:
            raise CorpusError(f"{message}; data.bad_rows=skip leaves such rows out and counts them")
        self.counts[reason] += 1


def left_out(counts: Counter[str]) -> str:
    """`left out: 3 x empty text, ...` of bad rows by reason."""
    return f"left out: {', '.join(f'{count:,} x {reason}' for reason, count in counts.most_common())}"


@dataclass(frozen=True)
class RowReader:
    """Reads rows as the settings say; what cannot be used goes to `bad_rows`."""

    data: LabelledData
    columns: Columns
    bad_rows: BadRows

    def read(self, patterns: Sequence[str]) -> list[RawRow]:
        """Return the rows of files, folders and globs (see `labelled_files`), in order, their texts cleaned.

        Raises:
            CorpusError: a pattern without a file, a file that cannot be read, a column that is not there, a row
                without label or text (unless bad rows are skipped), and no row at all.
        """
        rows: list[RawRow] = []
        for file, label in labelled_files(patterns):
            with damage_explained(file):
                for place, values in self._records(file) if label is None else _document(file, label):
                    row = self._row(file, place, values)
                    rows += [row] if row else []
        if not rows:
            skipped = f" ({self.bad_rows.counts.total():,} bad ones left out)" if self.bad_rows.counts else ""
            raise CorpusError(f"no labelled row in {', '.join(patterns)}{skipped}")
        return rows

    def _records(self, file: Path) -> Records:
        suffix = kind(file)
        if suffix == ".parquet":
            return _parquet_records(file, self.columns.wanted())
        if suffix in (".json", ".jsonl"):
            return self._json_records(file)
        return self._table_records(file, _csv_cells(file) if suffix == ".csv" else _tab_separated_cells(file))

    def _row(self, file: Path, place: str, values: dict[str, Any]) -> RawRow | None:
        """The row of a record; None for a bad one that is left out."""
        texts = {role: clean(text) for role, text in values.items() if role != "label" and isinstance(text, str)}
        if problem := self._problem(values | texts):
            self._refuse(file, place, *problem)
            return None
        return RawRow(texts["text"], texts.get("text_pair"), self._labels(values["label"]), file, place)

    def _problem(self, values: dict[str, Any]) -> tuple[str, str] | None:
        """(reason, message) when a record makes no row."""
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
            if len(row) <= max(positions.values()):
                self._refuse(file, f"line {line}", "missing column", f"{len(row)} columns, expected {width}")
            elif any(row[width:]):
                way_out = "put - in data.columns for each that is not used"
                message = f"{len(row)} columns, expected {width} ({way_out})"
                self._refuse(file, f"line {line}", "too many columns", message)
            else:
                yield f"line {line}", {role: row[position] for role, position in positions.items()}

    def _json_records(self, file: Path) -> Records:
        for place, record in _json_objects(file):
            missing = [name for name in self.columns.wanted().values() if name not in record]
            if missing:
                fields = f"the fields are {', '.join(record)}"[:200] + nearest(missing[0], record)
                self._refuse(file, place, "missing column", f"no field {missing[0]!r}; {fields}")
            else:
                yield place, {role: record[name] for role, name in self.columns.wanted().items()}


def _is_label(value: Any) -> bool:
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def _label_name(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables with holes hold whole numbers as 1.0
    return str(value).strip()


def refuse_header_as_row(rows: Sequence[RawRow], data: LabelledData) -> None:
    """Raises CorpusError when a table's first line, read as a row, has labels that no other row has: a header.

    Where labels are numbers or come from a file of names, a header is refused without this, as no label.
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
    return row.place == "line 1" and kind(row.file) not in (".json", ".jsonl")


def _document(file: Path, label: str) -> Records:
    yield "line 1", {"label": label, "text": "\n".join(line for _, line in numbered_lines(file))}


def _tab_separated_cells(file: Path) -> Cells:
    """A quote is a character like any other, as in the official GLUE files."""
    return ((number, line.split("\t")) for number, line in numbered_lines(file) if line)


def _csv_cells(file: Path) -> Cells:
    """Quoted as in RFC 4180: a cell in quotes may hold commas, line ends, and quotes that are doubled."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader((f"{line}\n" for _, line in numbered_lines(file)), strict=True)
    line = 1
    try:
        for cells in rows:
            if cells:
                yield line, cells
            line = rows.line_num + 1
    except csv.Error as error:
        raise CorpusError(
            f"{file}, line {line}: not csv ({error}); a quote inside a cell is doubled, and a file without quoting "
            "wants tabs and the name .tsv"
        ) from error


def _json_objects(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of JSON lines, or of a file that is one list."""
    lines = itertools.dropwhile(lambda numbered: not numbered[1].strip(), numbered_lines(file))
    number, line = next(lines, (0, ""))
    if line.lstrip().startswith("["):
        whole = "\n".join(itertools.chain([line], (text for _, text in lines)))
        records = ((f"record {place}", record) for place, record in enumerate(_json(whole, f"{file}"), start=1))
    else:
        numbered = itertools.chain([(number, line)], lines)
        records = ((f"line {place}", _json(text, f"{file}, line {place}")) for place, text in numbered if text.strip())
    for place, record in records:
        if not isinstance(record, dict):
            raise CorpusError(f"{file}, {place}: a JSON {type(record).__name__}, expected an object with named fields")
        yield place, record


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CorpusError(f"{where}: not JSON ({error}); expected one object a line, or one list") from error


def _parquet_records(file: Path, wanted: dict[str, str]) -> Records:
    import pyarrow.parquet as pq

    with open_bytes(file) as stream, table_damage_explained(file, "parquet"):
        table = pq.ParquetFile(stream)
        names = table.schema_arrow.names
        if missing := [name for name in wanted.values() if name not in names]:
            near = nearest(missing[0], names)
            raise CorpusError(f"{file}: no column {missing[0]!r}; the columns are {', '.join(names)}{near}")
        batches = table.iter_batches(batch_size=1024, columns=list(wanted.values()), use_threads=False)
        records = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, record in enumerate(records, start=1):
            yield f"record {number}", {role: record[name] for role, name in wanted.items()}
