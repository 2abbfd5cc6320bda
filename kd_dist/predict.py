"""Predict the label of every text, in order.

python kd_dist/predict.py --model runs/.../export < texts.txt
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import glob
import itertools
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.discovery import LABELLED_SUFFIXES, format_suffix, labelled_files, unread_files, unread_note
from kd_dist.data.lines import refuse_other_kinds
from kd_dist.data.separators import require_separator
from kd_dist.data.texts import TextColumns, TextReader, default_text_columns, parse_text_columns
from kd_dist.errors import UserError, exit_with_message, options_in_messages
from kd_dist.models.classifier import load_classifier, load_preprocessing, plain_preprocessing
from kd_dist.serving.prediction_files import FORMATS, open_output
from kd_dist.serving.predictions import checked_speed, predict

STDIN = "/dev/stdin"

INPUT_FORMATS = ", ".join(LABELLED_SUFFIXES)

SETTINGS = {
    **dict.fromkeys(("train", "validation", "test"), "--input"),
    "columns": "--columns",
    "header": "--header",
    "separator": "--separator",
}
"""The option of this command for each key of a stage's `data`."""

CHUNK_ROWS = 8192  # what is in memory, and sorted by length, at a time

Row = tuple[str, ...]  # the file, where there are several, and the texts


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
        yield chunk


EXAMPLES = """examples:
  python kd_dist/predict.py --model runs/tinybert_task/a/export < titles.txt > labels.tsv
  python kd_dist/predict.py --model DIR --input titles.jsonl --columns title --output labels.parquet
  python kd_dist/predict.py --model runs/fastbert/a/export --speed 0.5 < titles.txt
  python kd_dist/predict.py --model DIR --input pairs.csv --columns question,answer --output labels.csv
  python kd_dist/predict.py --model DIR --input dev.tsv test.tsv --columns label,text --output labels.csv

--columns has the names of the texts, or describes all columns as data.columns does: in order (label,text; - for one
without use), which a file without a header needs, or by name (text:title,label:category). Labels are not read.

Each line of plain text, empty or not, gives a line `label<TAB>probability`. A multi-label model gives the labels above
one half, joined by `|`; a regression model gives the number only. A model with branches (jobs fastbert,
fastbert_stage1) adds the layer at which the text exited. The two texts of a pair are in two columns or, in plain text,
separated by a tab. Labels are written after every 8,192 lines and at the end."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predict.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Label texts with a trained classifier.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="classifier: runs/.../export")
    parser.add_argument(
        "--input",
        nargs="+",
        default=[STDIN],
        metavar="FILE",
        help=f"files, folders or globs: {INPUT_FORMATS}, plain or .gz (default: stdin)",
    )
    parser.add_argument(
        "--columns",
        "--text-field",
        metavar="NAME[,NAME]",
        help="where the texts are in all but plain text (default: text, or text,text_pair for a model of pairs)",
    )
    parser.add_argument("--header", choices=("auto", "yes", "no"), default="auto", help="first row of tsv and csv")
    parser.add_argument(
        "--separator", metavar="X", help=r"between columns, such as ; or \t (default: tabs, commas in csv)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"{', '.join(FORMATS)} (default: stdout)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="texts per forward pass (64)")
    when = parser.add_argument_group("early exit, for a model with branches (default: as the model was calibrated)")
    when.add_argument("--speed", metavar="X", help="exit when the uncertainty is below X: 0 (all layers) to 1 (first)")
    when.add_argument("--patience", type=int, metavar="N", help="exit when N layers in a row agree")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Check options and output before the model is loaded.

    Raises:
        UserError: a file that cannot be written, a number that is too small, or no separator.
    """
    require_separator("--separator", options.separator)
    if options.output and options.output.suffix.lower() not in FORMATS:
        raise UserError(
            f"--output {options.output}: cannot write `{options.output.suffix}`; give one of {', '.join(FORMATS)}"
        )
    if options.output and not options.output.absolute().parent.is_dir():
        raise UserError(f"--output {options.output}: no such folder")
    for option, number in (("--batch-size", options.batch_size), ("--patience", options.patience)):
        if number is not None and number < 1:
            raise UserError(f"{option} {number}: at least 1")


def _find_input(patterns: Sequence[str]) -> list[tuple[Path, bool]]:
    """Return the files to read, as training finds them, and whether each is a document: one text.

    Raises:
        UserError: there is no such file, or it is of no kind that is read.
    """
    if list(patterns) == [STDIN]:
        if sys.stdin.isatty():
            print("a text on each line, Ctrl-D at the end", file=sys.stderr)
        return [(Path(STDIN), False)]
    for pattern in patterns:
        if not glob.has_magic(pattern) and not Path(pattern).expanduser().exists():
            raise UserError(f"--input {pattern}: no such file or folder")
    with options_in_messages(SETTINGS):
        files = [(file, label is not None) for file, label in labelled_files(patterns)]
    for file, is_document in files:
        if not is_document and (suffix := format_suffix(file)) not in ("", *LABELLED_SUFFIXES):
            refuse_other_kinds([file])
            raise UserError(f"--input {file}: cannot read `{suffix}`; give one of {INPUT_FORMATS}, plain or .gz")
    if unread := unread_files(patterns, (file for file, _ in files)):
        _note(unread_note(unread))
    return files


def _read(files: Sequence[tuple[Path, bool]], columns: TextColumns, options: argparse.Namespace) -> Iterator[Row]:
    """Yield the texts of all files, in order, each after its file where there are several."""
    data = LabelledData(train=[], header=options.header, separator=options.separator)
    reader = TextReader(columns, data.header, data.separator, _note)
    with options_in_messages(SETTINGS):
        for file, is_document in files:
            of_file = (str(file),) if len(files) > 1 else ()
            yield from ((*of_file, *texts) for texts in reader.read(file, is_document))


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Predict, and return the exit status."""
    options = _parser().parse_args()
    _check(options)
    files = _find_input(options.input)
    speed = None if options.speed is None else checked_speed("--speed", options.speed)
    given = parse_text_columns(options.columns.split(",")) if options.columns else None
    classifier = load_classifier(options.model)
    if speed is not None or options.patience is not None:
        classifier = classifier.at(speed, options.patience)
    is_of_pairs = given is not None and len(given.roles) == 2
    preprocessing = load_preprocessing(classifier, plain_preprocessing(classifier, pairs=is_of_pairs))
    columns = given or default_text_columns(preprocessing.pairs)
    if len(columns.roles) != 1 + preprocessing.pairs:
        expected = "pairs of texts: name two columns" if preprocessing.pairs else "single texts: name one column"
        raise UserError(f"--columns {options.columns}: the model was trained on {expected}")
    fields = [*(["file"] if len(files) > 1 else []), *columns.names]
    num_rows = num_cut = 0
    with _progress() as progress, open_output(options.output, fields, classifier) as write:
        shown = progress.add_task("texts", total=None)
        for rows in _chunks(_read(files, columns, options)):
            texts = [row[-len(columns.roles) :] for row in rows]
            answers, cut = predict(classifier, preprocessing, texts, options.batch_size)
            write([dict(zip(fields, row, strict=True)) | answer for row, answer in zip(rows, answers, strict=True)])
            num_rows, num_cut = num_rows + len(rows), num_cut + cut
            progress.update(shown, completed=num_rows)
            if progress.disable and len(rows) == CHUNK_ROWS:
                print(f"{num_rows:,} texts", file=sys.stderr, flush=True)
    if num_cut:
        longest = min(preprocessing.max_length, classifier.max_length)
        _note(f"{num_cut:,} of {num_rows:,} texts were longer than {longest} tokens and were truncated")
    return 0


def _progress() -> Progress:
    """Show how many texts are done if stderr is a terminal; otherwise `main` prints a line after each chunk."""
    columns = SpinnerColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as any filter: `| head` ends it quietly
    exit_with_message(main)
