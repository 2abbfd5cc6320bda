"""Texts in, labels out, one for one and in order.

python kd_dist/predict.py --model runs/.../export < texts.txt
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import csv
import itertools
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

from kd_dist.classifier import (
    Answers,
    Classifier,
    checked_speed,
    load_classifier,
    load_preprocessing,
    plain_preprocessing,
)
from kd_dist.classifier import predict as answers_to
from kd_dist.errors import UserError, exit_with_message, nearest
from kd_dist.metrics import predictions, probabilities
from kd_dist.preprocessing import Preprocessing
from kd_dist.texts import damage_explained, kind, numbered_lines, open_bytes, table_damage_explained

CHUNK_ROWS = 8192  # what is in memory, and sorted by length, at a time
FORMATS = (".txt", ".tsv", ".csv", ".jsonl", ".parquet")
STDIN = Path("/dev/stdin")

Texts = tuple[str, ...]  # one text, or the two of a pair
Fields = Iterator[tuple[int, dict[str, Any]]]  # number of the line or record, and its values by name
# The texts by column; `label` and `probability`, lists of them, or `label`, a number, alone; perhaps `exit_layer`.
Record = dict[str, Any]
Write = Callable[[list[Record]], None]


# --------------------------------------------------------------------------------------------------------------- input


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


# -------------------------------------------------------------------------------------------------------------- output


@contextmanager
def open_output(file: Path | None, columns: Sequence[str], classifier: Classifier) -> Iterator[Write]:
    """Give what writes records to a file, which is there as a whole or not at all; without a file, to stdout."""
    results = ["label"] if classifier.task == "regression" else ["label", "probability"]
    results += [] if classifier.exit_rule is None else ["exit_layer"]
    if file is None:
        yield _cell_writer(sys.stdout, results)
        return
    temporary = file.with_name(f".{file.name}.tmp-{os.getpid()}")
    try:
        with _writer(temporary, file.suffix, [*columns, *results], results, classifier) as write:
            yield write
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


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


# ---------------------------------------------------------------------------------------------------------- prediction


def predict(
    classifier: Classifier, preprocessing: Preprocessing, rows: Sequence[Texts], batch_size: int
) -> tuple[list[Record], int]:
    """`label` and `probability` of every row, and how many rows were too long and were cut.

    Multi-label: lists of the labels above one half, the most probable first. Regression: the number alone. A model with
    branches also says at which layer (from 1) a row left: `exit_layer`.
    """
    firsts = [row[0] for row in rows]
    seconds = [row[1] for row in rows] if len(rows[0]) == 2 else None
    encodings, cut = classifier.encode(preprocessing, firsts, seconds)
    answers = answers_to(classifier, encodings, batch_size)
    return _records(classifier, answers), cut


def _records(classifier: Classifier, answers: Answers) -> list[Record]:
    records = _predictions(classifier, answers.logits_NC)
    if answers.layers_N is None:
        return records
    return [record | {"exit_layer": layer} for record, layer in zip(records, answers.layers_N.tolist(), strict=True)]


def _predictions(classifier: Classifier, logits_NC: np.ndarray) -> list[Record]:
    names, task = classifier.labels, classifier.task
    predicted = predictions(task, logits_NC)
    if task == "regression":
        return [{"label": float(value)} for value in predicted]
    probabilities_NC = probabilities(task, logits_NC)
    if task == "single_label":
        best = probabilities_NC[np.arange(len(predicted)), predicted]
        return [{"label": names[i], "probability": float(p)} for i, p in zip(predicted, best, strict=True)]
    order_NC = (-probabilities_NC).argsort(axis=1, kind="stable")
    chosen = [[i for i in order if given[i]] for order, given in zip(order_NC, predicted, strict=True)]
    return [
        {"label": [names[i] for i in row], "probability": [float(p[i]) for i in row]}
        for row, p in zip(chosen, probabilities_NC, strict=True)
    ]


def _chunks(rows: Iterator[Texts]) -> Iterator[list[Texts]]:
    while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
        yield chunk


# -------------------------------------------------------------------------------------------------------- command line

EXAMPLES = """examples:
  python kd_dist/predict.py --model runs/tinybert_task/a/export < titles.txt > labels.tsv
  python kd_dist/predict.py --model DIR --input titles.jsonl --columns title --output labels.parquet
  python kd_dist/predict.py --model runs/fastbert/a/export --speed 0.5 < titles.txt
  python kd_dist/predict.py --model DIR --input pairs.csv --columns question,answer --output labels.csv

A line of plain text gives a line `label<TAB>probability`, an empty one too. Of several labels those above one half are
given, joined by `|`; of a model that predicts a number, the number alone. A model with branches (jobs fastbert,
fastbert_stage1) adds the layer at which the text left. Pairs are two columns, or a tab between the
two texts of a line. Labels come out after every 8,192 lines, and at the end."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predict.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Label texts with a trained classifier.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="classifier: runs/.../export")
    parser.add_argument(
        "--input", type=Path, default=STDIN, metavar="FILE", help=f"{', '.join(FORMATS)}, plain or .gz (default: stdin)"
    )
    parser.add_argument(
        "--columns",
        "--text-field",
        metavar="NAME[,NAME]",
        help="where the texts are in all but plain text (default: text, or text,text_pair for a model of pairs)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"{', '.join(FORMATS)} (default: stdout)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="texts of one forward pass (64)")
    when = parser.add_argument_group("early exit, of a model with branches (default: as the model was calibrated)")
    when.add_argument("--speed", metavar="X", help="leave when the uncertainty is below X: 0 (all layers) to 1 (first)")
    when.add_argument("--patience", type=int, metavar="N", help="leave when N layers in a row agree")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Whatever is wrong with the files is found before the model is loaded."""
    if options.input == STDIN:
        if sys.stdin.isatty():
            print("a text on each line, Ctrl-D at the end", file=sys.stderr)
    elif not options.input.is_file():
        raise UserError(f"--input {options.input}: no such file")
    if options.output and options.output.suffix not in FORMATS:
        raise UserError(
            f"--output {options.output}: cannot write `{options.output.suffix}`; give one of {', '.join(FORMATS)}"
        )
    if options.output and not options.output.absolute().parent.is_dir():
        raise UserError(f"--output {options.output}: no such folder")
    for option, number in (("--batch-size", options.batch_size), ("--patience", options.patience)):
        if number is not None and number < 1:
            raise UserError(f"{option} {number}: at least 1")


def main() -> int:
    options = _parser().parse_args()
    _check(options)
    speed = None if options.speed is None else checked_speed("--speed", options.speed)
    columns = options.columns.split(",") if options.columns else []
    classifier = load_classifier(options.model)
    if speed is not None or options.patience is not None:
        classifier = classifier.at(speed, options.patience)
    preprocessing = load_preprocessing(classifier, plain_preprocessing(classifier, pairs=len(columns) == 2))
    columns = columns or ["text", "text_pair"][: 1 + preprocessing.pairs]
    if len(columns) != 1 + preprocessing.pairs:
        expected = "pairs of texts: name two columns" if preprocessing.pairs else "single texts: name one column"
        raise UserError(f"--columns {options.columns}: the model was trained on {expected}")
    chunks = _chunks(read_texts(options.input, columns))
    num_rows = num_cut = 0
    with _progress() as progress, open_output(options.output, columns, classifier) as write:
        shown = progress.add_task("texts", total=None)
        for rows in chunks:
            answers, cut = predict(classifier, preprocessing, rows, options.batch_size)
            write([dict(zip(columns, row, strict=True)) | answer for row, answer in zip(rows, answers, strict=True)])
            num_rows, num_cut = num_rows + len(rows), num_cut + cut
            progress.update(shown, completed=num_rows)
            if progress.disable and len(rows) == CHUNK_ROWS:
                print(f"{num_rows:,} texts", file=sys.stderr, flush=True)
    if num_cut:
        longest = min(preprocessing.max_length, classifier.max_length)
        print(
            f"note: {num_cut:,} of {num_rows:,} texts were longer than {longest} tokens and were cut", file=sys.stderr
        )
    return 0


def _progress() -> Progress:
    """How many texts are done, on stderr if that is a terminal; elsewhere a line after each chunk says so."""
    columns = SpinnerColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as any filter: `| head` ends it quietly
    exit_with_message(main)
