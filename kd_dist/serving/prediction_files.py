"""Files of texts in, files of labels out."""

import csv
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kd_dist.data.discovery import kind
from kd_dist.data.readers import damage_explained, numbered_lines, open_bytes, table_damage_explained
from kd_dist.errors import UserError, nearest
from kd_dist.files import atomic_path
from kd_dist.models.classifier import Classifier
from kd_dist.serving.predictions import Record, Texts

FORMATS = (".txt", ".tsv", ".csv", ".jsonl", ".parquet")

STDIN = Path("/dev/stdin")

Fields = Iterator[tuple[int, dict[str, Any]]]  # number of the line or record, and its values by name

Write = Callable[[list[Record]], None]


def read_texts(file: Path, columns: Sequence[str]) -> Iterator[Texts]:
    """Yield the texts of every line or record, empty ones too; never the whole file at once.

    `columns` are the names of one text, or of the two of a pair; in plain text a tab stands between these.

    Raises:
        UserError: an unknown suffix, a damaged file, a column that is not there, a row with more cells than the header,
            or a value that is no text.
    """
    readers = {".tsv": _table, ".csv": _table, ".jsonl": _json_lines, ".parquet": _parquet}
    with damage_explained(file):
        if file == STDIN or kind(file) == ".txt":
            for number, line in numbered_lines(file):
                yield _of_line(line, len(columns), f"{file}, line {number}")
        elif reader := readers.get(kind(file)):
            for number, values in reader(file):
                yield tuple(_text(values, column, f"{file}, line {number}") for column in columns)
        else:
            raise UserError(f"{file}: cannot read `{kind(file)}`; give one of {', '.join(FORMATS)}, plain or .gz")


def _of_line(line: str, num_texts: int, where: str) -> Texts:
    if num_texts == 1 or not line:
        return (line,) * num_texts
    if "\t" not in line:
        raise UserError(f"{where}: no tab between the two texts of a pair")
    return tuple(line.split("\t", 1))


def _text(values: dict[str, Any], column: str, where: str) -> str:
    if column not in values:
        found = ", ".join(map(str, values)) or "nothing"
        raise UserError(f"{where}: no {column!r} in {found}; name the column in --columns{nearest(column, values)}")
    value = values[column]
    if value is not None and not isinstance(value, str):
        raise UserError(f"{where}: {column!r} holds {type(value).__name__}, expected text")
    return value or ""


def _table(file: Path) -> Fields:
    """Rows below a header. In tsv a quote is a character like any other."""
    csv.field_size_limit(2**31 - 1)
    lines = (f"{line}\n" for _, line in numbered_lines(file))
    quoted = kind(file) == ".csv"
    reader = csv.reader(
        lines, delimiter="," if quoted else "\t", quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True
    )
    try:
        header = next(reader, [])
        for cells in reader:  # an empty line is a row of empty cells
            if any(cells[len(header) :]):
                way_out = "a text with commas stands in quotes" if quoted else "a tab inside a text has to go"
                expected = f"expected {len(header)} as in the header ({way_out})"
                raise UserError(f"{file}, line {reader.line_num}: {len(cells)} columns, {expected}")
            yield reader.line_num, dict(itertools.zip_longest(header, cells[: len(header)], fillvalue=""))
    except csv.Error as error:
        raise UserError(
            f"{file}, line {reader.line_num}: not csv ({error}); a quote inside a cell is doubled"
        ) from error


def _json_lines(file: Path) -> Fields:
    for number, line in numbered_lines(file):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(f"{file}, line {number}: not JSON ({error}); every line is one object") from error
        if not isinstance(record, dict):
            raise UserError(f"{file}, line {number}: a JSON {type(record).__name__}; every line is one object")
        yield number, record


def _parquet(file: Path) -> Fields:
    import pyarrow.parquet as pq

    with open_bytes(file) as stream, table_damage_explained(file, "parquet"):
        batches = pq.ParquetFile(stream).iter_batches(batch_size=1024)
        yield from enumerate(itertools.chain.from_iterable(batch.to_pylist() for batch in batches), start=1)


@contextmanager
def open_output(file: Path | None, columns: Sequence[str], classifier: Classifier) -> Iterator[Write]:
    """Give what writes records to a file, which is there as a whole or not at all; without a file, to stdout."""
    results = ["label"] if classifier.task == "regression" else ["label", "probability"]
    results += [] if classifier.exit_rule is None else ["exit_layer"]
    if file is None:
        yield _cell_writer(sys.stdout, results)
        return
    fields = [*columns, *results]
    with atomic_path(file) as temporary, _writer(temporary, file.suffix, fields, results, classifier) as write:
        yield write


@contextmanager
def _writer(file: Path, suffix: str, fields: list[str], results: list[str], classifier: Classifier) -> Iterator[Write]:
    if suffix == ".parquet":
        with _parquet_writer(file, fields, results, classifier) as write:
            yield write
        return
    with open(file, "w", encoding="utf-8", newline="") as stream:
        if suffix == ".txt":
            yield _cell_writer(stream, results)
        elif suffix == ".jsonl":
            yield lambda records: stream.writelines(f"{json.dumps(r, ensure_ascii=False)}\n" for r in records)
        else:
            write_rows = _write_csv if suffix == ".csv" else _write_tsv
            write_rows(stream, [fields])
            yield lambda records: write_rows(stream, [[_cell(record[name]) for name in fields] for record in records])


def _write_csv(stream: Any, rows: list[list[str]]) -> None:
    csv.writer(stream, lineterminator="\n").writerows(rows)


def _write_tsv(stream: Any, rows: list[list[str]]) -> None:
    """Without quoting, as tsv is read: a tab or line break inside a text becomes a space."""
    stream.writelines("\t".join(" ".join(re.split(r"[\t\r\n]+", cell)) for cell in row) + "\n" for row in rows)


def _cell_writer(stream: Any, results: list[str]) -> Write:
    def write(records: list[Record]) -> None:
        stream.writelines("\t".join(_cell(record[name]) for name in results) + "\n" for record in records)
        stream.flush()

    return write


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(map(_cell, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@contextmanager
def _parquet_writer(file: Path, fields: list[str], results: list[str], classifier: Classifier) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"label": pa.float64() if classifier.task == "regression" else pa.string(), "probability": pa.float64()}
    if classifier.task == "multi_label":
        types = {name: pa.list_(kind_of_one) for name, kind_of_one in types.items()}
    types["exit_layer"] = pa.int64()
    schema = pa.schema([(name, types[name] if name in results else pa.string()) for name in fields])
    with pq.ParquetWriter(file, schema) as table:
        yield lambda records: table.write_table(pa.Table.from_pylist(records, schema))
