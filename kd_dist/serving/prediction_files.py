"""Write predictions to files."""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kd_dist.files import atomic_path
from kd_dist.models.classifier import Classifier
from kd_dist.serving.predictions import Record

FORMATS = (".txt", ".tsv", ".csv", ".jsonl", ".parquet")

# A tab, and all that ends a line for one reader or another (`str.splitlines`).
_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")

Write = Callable[[list[Record]], None]


@contextmanager
def open_output(file: Path | None, columns: Sequence[str], classifier: Classifier) -> Iterator[Write]:
    """Yield a function that writes records to a file, which appears when the block ends without an error.

    Args:
        file: its suffix is one of `FORMATS`; None writes lines to stdout.
        columns: the columns of the texts, which tables repeat.
        classifier: says which results a record has.
    """
    results = ["label"] if classifier.task == "regression" else ["label", "probability"]
    results += [] if classifier.exit_rule is None else ["exit_layer"]
    if file is None:
        yield _cell_writer(sys.stdout, results)
        return
    fields = [*columns, *results]
    with atomic_path(file) as temporary, _writer(temporary, file.suffix.lower(), fields, results, classifier) as write:
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
    """Write rows as csv; inside a text lines end with LF, since a CR would end the row without being quoted."""
    csv.writer(stream, lineterminator="\n").writerows([re.sub(r"\r\n?", "\n", cell) for cell in row] for row in rows)


def _write_tsv(stream: Any, rows: list[list[str]]) -> None:
    """Write rows without quoting, as tsv is read: tabs and line breaks inside a cell become a space."""
    stream.writelines("\t".join(_BREAKS.sub(" ", cell) for cell in row) + "\n" for row in rows)


def _cell_writer(stream: Any, results: list[str]) -> Write:
    def write(records: list[Record]) -> None:
        _write_tsv(stream, [[_cell(record[name]) for name in results] for record in records])
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
