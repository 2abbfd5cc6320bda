"""Score classifiers on labelled rows, and measure size and speed side by side.

python kd_dist/evaluate.py --model DIR [--model DIR2] --data test.tsv --columns label,text [--output DIR]

Models are compared with the first one, such as a teacher.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from kd_dist.config.sections.data import LabelledData
from kd_dist.config.tasks import Task
from kd_dist.data.examples import Examples, read_rows
from kd_dist.data.labelled_rows import BadRows, left_out
from kd_dist.data.separators import require_separator
from kd_dist.errors import UserError, exit_with_message, options_in_messages
from kd_dist.evaluation.model_key import ModelKey
from kd_dist.evaluation.outputs import write_evaluation
from kd_dist.evaluation.scoring import at_speeds, own_preprocessings, score_all
from kd_dist.evaluation.tables import print_table
from kd_dist.models.classifier import load_classifier, plain_preprocessing
from kd_dist.serving.predictions import checked_speed

SETTINGS = {
    **dict.fromkeys(("train", "validation", "test"), "--data"),
    "columns": "--columns",
    "header": "--header",
    "separator": "--separator",
    "task": "--task",
    "bad_rows": "--bad-rows",
}
"""The option of this command for each key of a stage's `data`."""


def read_examples(options: argparse.Namespace, task: Task, label2id: dict[str, int]) -> Examples:
    """Read the rows of --data.

    Args:
        options: those of the command.
        task: what the labels are.
        label2id: the model's labels.

    Raises:
        CorpusError: options, files or rows cannot be used, or no row is left.
    """
    if not options.label_separator:
        raise UserError("--label-separator: at least one character")
    require_separator("--separator", options.separator)
    data = LabelledData(
        train=[options.data],
        columns=options.columns.split(","),
        header=options.header,
        separator=options.separator,
        task=task,
        label_separator=options.label_separator,
        bad_rows=options.bad_rows,
    )
    bad_rows = BadRows(skip=data.bad_rows == "skip")
    with options_in_messages(SETTINGS):
        examples = read_rows(data, label2id, bad_rows)
    if bad_rows.counts:
        print(left_out(bad_rows.counts), file=sys.stderr)
    return examples


def named_models(models: Sequence[str]) -> dict[str, str]:
    """Return the folders of models by name.

    Args:
        models: each `NAME=DIR`, or a folder, which is named after itself; `export` and `model` after their parents.

    Raises:
        UserError: two models have the same name.
    """
    named: dict[str, str] = {}
    for given in models:
        name, path = _name_and_path(given)
        parts = [part for part in Path(path).absolute().parts if part not in ("export", "model")]
        name = name or parts[-1]
        if name in named:
            raise UserError(f"two models are called {name!r}; name them: --model NAME={path}")
        named[name] = path
    return named


def _name_and_path(given: str) -> tuple[str, str]:
    """Split `NAME=DIR`; a `=` behind a `/` belongs to the path."""
    name, found, path = given.partition("=")
    return (name, path) if found and "/" not in name else ("", given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Score classifiers on labelled rows, and measure size and speed side by side.",
        epilog="example:\n  python kd_dist/evaluate.py --model teacher=runs/finetune/a/export "
        "--model student=runs/b/c/export --data test.tsv --columns label,text",
    )
    parser.add_argument(
        "--model", action="append", required=True, metavar="[NAME=]DIR", help="classifier; the first is compared with"
    )
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="labelled rows: tsv, csv, txt, json lines, parquet, plain or .gz"
    )
    parser.add_argument(
        "--columns",
        default="label,text",
        help="as data.columns: label,text[,text_pair], text:NAME,label:NAME, or text:NAME,labels:*",
    )
    parser.add_argument("--header", choices=("auto", "yes", "no"), default="auto", help="first row of tsv and csv")
    parser.add_argument(
        "--separator", metavar="X", help=r"between columns, such as ; or \t (default: tabs, commas in csv)"
    )
    parser.add_argument("--task", choices=get_args(Task), help="default: what the first model was trained for")
    parser.add_argument("--label-separator", default="|", help="between the labels of a multi-label row (default: |)")
    parser.add_argument("--bad-rows", choices=("error", "skip"), default="error", help="rows that cannot be used")
    parser.add_argument(
        "--speeds", default="", metavar="0,0.5,...", help="also measure models with early exit at these speeds (0 to 1)"
    )
    parser.add_argument("--no-speed", action="store_true", help="scores and size only")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for evaluation.json, predictions and plots")
    return parser


def main() -> int:
    """Run the command, and return its exit status."""
    options = _parser().parse_args()
    speeds = [checked_speed("--speeds", text) for text in options.speeds.split(",") if text]
    named = named_models(options.model)
    classifiers = {ModelKey.of_name(name): load_classifier(path) for name, path in named.items()}
    first = next(iter(classifiers.values()))
    first = replace(first, task=options.task or first.task)
    examples = read_examples(options, first.task, first.label2id)
    default = plain_preprocessing(first, pairs=examples.text_pairs is not None)
    if speeds and all(one.exit_rule is None for one in classifiers.values()):
        first.at(speeds[0])  # raises: there are no branches
    if options.output:
        _make_folder(options.output)
    classifiers = at_speeds(classifiers, speeds)
    scored = score_all(classifiers, own_preprocessings(classifiers, default), examples, speed=not options.no_speed)
    if options.output:
        write_evaluation(options.output, examples, scored, None)
    print_table(examples, scored)
    return 0


def _make_folder(output: Path) -> None:
    """Make the folder of the output before hours of scoring."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output {output}: {error.strerror}; give a folder; it is created if it does not exist"
        ) from error


if __name__ == "__main__":
    exit_with_message(main)
