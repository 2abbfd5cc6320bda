"""What distillation gains with default settings: a grid of data sets, sizes, methods and seeds.

    python benchmarks/quality.py --encoder DIR --data ../shared/data --sets chnsenticorp tnews --rows 1000 3000

One teacher is fine-tuned for each set and size; every method is a run of the job `tinybert_task` from it, or of `rnn`,
which trains the student alone beside the distilled one. A run that is complete is not repeated, one that was
interrupted goes on. Scores are those of test rows; choices were made on validation rows. `--rows N` takes a stratified
sample of N rows of each split, and text without labels is the beginning of the training file, among it rows of the
sample.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import positive, write_result
from kd_dist.config.tasks import METRICS
from kd_dist.data.texts import TextReader, parse_text_columns
from kd_dist.files import read_json, write_text

ROOT = Path(__file__).resolve().parent.parent

SETS: dict[str, dict[str, str]] = {
    "thucnews": {
        "train": "thucnews/train.txt", "validation": "thucnews/dev.txt", "test": "thucnews/test.txt",
        "columns": "text,label", "max_length": "40",
    },
    "chnsenticorp": {
        "train": "chnsenticorp/train.tsv", "validation": "chnsenticorp/dev.tsv", "test": "chnsenticorp/test.tsv",
        "columns": "label,text", "max_length": "64",
    },
    "tnews": {
        "train": "tnews/train.json", "validation": "tnews/dev.json", "test": "tnews/test_public.json",
        "columns": "text:sentence,label:label", "max_length": "40",
    },
    "toutiao5": {
        "train": "toutiao5/train.json", "test": "toutiao5/test.json",
        "columns": "text:text,label:label", "max_length": "40",
    },
    "duee_multilabel": {
        "train": "duee_multilabel/train.csv", "test": "duee_multilabel/test.csv",
        "columns": "label:label,text:content", "max_length": "64", "task": "multi_label",
    },
    "sst2": {
        "train": "glue/SST-2/train.tsv", "test": "glue/SST-2/dev.tsv",
        "columns": "text:sentence,label:label", "max_length": "40",
    },
}  # fmt: skip

METHODS: dict[str, list[str]] = {
    "default": [],
    "unlabelled": ["data.unlabelled={texts}"],
    "no perturbed rows": ["perturb.copies=0"],
    "projected embeddings": ["student.init=projected"],
    "random start": ["student.init=random"],
    "four layers of the teacher": ["student.teacher_layers=3,6,9,12", "layers.train.epochs=0.5"],
    "unlabelled, four layers of the teacher": [
        "student.teacher_layers=3,6,9,12",
        "layers.train.epochs=0.5",
        "data.unlabelled={texts}",
    ],
    "layers first, centred attention": ["layers.train.epochs=1", "objective.attention=centred"],
    "layers first, raw attention": ["layers.train.epochs=1", "objective.attention=raw"],
    "layers first, no attention": ["layers.train.epochs=1", "objective.attention=none"],
    "bilstm": ["student.config=bilstm"],
    "bigru": ["student.config=bigru"],
}
Scores = dict[str, dict[str, dict[str, list[float]]]]  # data -> method -> model -> one score a seed
RECURRENT = ("bilstm", "bigru")  # students of the job `rnn`
MODELS = ("teacher", "student_alone", "student")


class Grid:
    """The runs of a grid.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.scores: Scores = defaultdict(dict)

    def run(self, name: str, rows: int) -> None:
        """Fine-tune the teacher of a set of this size, distil it by every method, and collect the scores."""
        data = [f"data.{key}={self._place(key, value)}" for key, value in SETS[name].items()]
        data += [f"data.max_rows={rows}", "evaluate.speed=false", *self._options.settings]
        run_id = f"{name}_{rows}"
        self._start("finetune", run_id, [f"encoder.path={self._options.encoder}", *data])
        teacher = f"teacher.path={self._options.runs / 'finetune' / run_id / 'finetune' / 'export'}"
        for method in self._options.methods:
            settings = [setting.format(texts=self._texts(name)) for setting in METHODS[method]]
            method_id = f"{run_id}_{method.replace(' ', '_').replace(',', '')}"
            job = "rnn" if method in RECURRENT else "tinybert_task"
            self._start(job, method_id, [teacher, *data, *settings], seeds=self._options.seeds)
            self.scores[f"{name}, {rows:,} rows"][method] = self._scores(self._options.runs / job / method_id)

    def _place(self, key: str, value: str) -> str:
        return str(self._options.data / value) if key in ("train", "validation", "test") else value

    def _texts(self, name: str) -> Path:
        """Write the texts of a training file, a line each, unless they are there."""
        texts = self._options.runs / f"{name}.txt"
        if not texts.exists():
            columns = SETS[name]["columns"].split(",")
            reader = TextReader(parse_text_columns(columns), "auto", None, note=lambda note: None)
            found = reader.read(self._options.data / SETS[name]["train"], is_document=False)
            lines = [" ".join((row[0] or "").split()) for row in found]
            write_text(texts, "".join(f"{line}\n" for line in lines[: self._options.unlabelled_rows]))
        return texts

    def _start(self, job: str, run_id: str, settings: list[str], seeds: int = 1) -> None:
        command = [sys.executable, str(ROOT / "launch" / "slurm.py"), "--job", job, "--cluster", "local"]
        command += ["--runs-dir", str(self._options.runs), "--run-id", run_id]
        subprocess.run([*command, *(["--seeds", str(seeds)] if seeds > 1 else []), *settings], check=True)

    def _scores(self, run_dir: Path) -> dict[str, list[float]]:
        """Return the test scores of each model, one a seed."""
        rows: list[dict[str, Any]] = read_json(run_dir / "results.json")
        found: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            if row["stage"] == "evaluation" and row["split"] == "test" and row["model"] in MODELS:
                found[row["model"]].append(row[next(m[0] for m in METRICS.values() if m[0] in row)])
        return dict(found)


def table(scores: Scores) -> Table:
    """Return mean and spread of every model, what the student keeps of the teacher, and its gain over itself alone."""
    shown = Table("data", "method", "seeds", *MODELS, "kept", "gain, points")
    for cells in compared(scores):
        shown.add_row(*cells)
    return shown


def compared(scores: Scores) -> Iterator[list[str]]:
    """Yield data, method, number of seeds, the score of each model, what is kept of the teacher's, and the gain.

    Args:
        scores: those of a grid; the student alone may be missing.
    """
    for data, methods in scores.items():
        for method, models in methods.items():
            means = {name: statistics.mean(found) for name, found in models.items()}
            shown = [with_spread(models[name]) if name in models else "" for name in MODELS]
            kept = f"{means['student'] / means['teacher']:.1%}"
            gain = f"{100 * (means['student'] - means['student_alone']):+.1f}" if "student_alone" in means else ""
            yield [data, method, str(len(models["student"])), *shown, kept, gain]


def with_spread(values: list[float]) -> str:
    """Return the mean of scores, and their standard deviation where they are several."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="pretrained encoder that becomes the teachers")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", nargs="+", type=positive, default=[1000])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--unlabelled-rows", type=positive, default=8000, help="texts without labels, at most")
    parser.add_argument("--settings", nargs="+", default=[], help="for every run, such as engine.precision=bf16")
    parser.add_argument("--seeds", type=positive, default=1, help="of the students")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "quality", help="where the runs are kept")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    grid = Grid(options)
    for name in options.sets:
        for rows in options.rows:
            grid.run(name, rows)
            Console().print(table(grid.scores))
            write_result(dict(grid.scores), options.output)


if __name__ == "__main__":
    main()
