"""How good, how large and how fast classifiers are, side by side; and what a bad teacher does.

python kd_dist/evaluation.py --model DIR [--model DIR2] --data test.tsv --columns label,text [--output DIR]

Models are compared with the first one, the teacher. Shapes: N rows, C classes.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from kd_dist.classifier import (
    Classifier,
    checked_speed,
    load_classifier,
    load_preprocessing,
    plain_preprocessing,
    predict,
)
from kd_dist.config import read_stage
from kd_dist.errors import RunError, UserError, exit_with_message
from kd_dist.examples import Examples, read_rows, read_split
from kd_dist.label_files import BadRows, left_out
from kd_dist.metrics import (
    METRICS,
    Task,
    align_labels,
    confusion_matrix,
    fisher_lower_bound,
    main_metric,
    per_class,
    predictions,
    probabilities,
    scores,
    wilson_lower_bound,
)
from kd_dist.operations import Operations
from kd_dist.preprocessing import Encoding, Preprocessing
from kd_dist.runs import add_result, link, write_json
from kd_dist.sections import Guards, LabelledData
from kd_dist.speeds import AT_SPEED, model_and_seed, plot_speeds
from kd_dist.stages import EvaluateStage
from kd_dist.texts import CorpusError
from kd_dist.timing import BATCH_SIZE, THROUGHPUT_ROWS, some_rows, time_in_turn
from kd_dist.tracking import log_results


@dataclass(frozen=True)
class Scored:
    """A classifier on the examples: tokens, (N, C) logits in the order of the examples' labels, and what came of it.

    `layers_N`: the layers at which rows left, of a model with early exit.
    """

    classifier: Classifier
    encodings: list[Encoding]
    logits_NC: np.ndarray
    layers_N: np.ndarray | None
    row: dict[str, Any]


def run(stage_dir: Path) -> None:
    """The evaluate stage: `stage_dir`/evaluation.json, predictions, confusion matrices and rows of the run's results.

    `stage_dir`/model, which later stages start from, becomes a link to the first model once the guard lets it pass.

    Raises:
        UserError: a model that is no classifier of these labels, or a teacher that was trained on other tokens.
        RunError: no rows, or the guard refuses the first model.
    """
    stage: EvaluateStage = read_stage(stage_dir)
    (stage_dir / "model").unlink(missing_ok=True)  # of an evaluation with other inputs
    tokens = Path(stage.data.tokens)
    examples = read_split(tokens, stage.evaluate.split)
    classifiers = {name: load_classifier(path) for name, path in stage.evaluate.models.items()}
    classifiers = at_speeds(classifiers, stage.evaluate.speeds)
    prepared = Preprocessing.load(tokens)
    preprocessings = own_preprocessings(classifiers, prepared)
    if stage.guards:
        preprocessings |= of_teacher(classifiers, preprocessings, prepared)
    scored = score_all(classifiers, preprocessings, examples, speed=stage.evaluate.speed)
    for name, one in scored.items():
        add_result(stage_dir.parent, {"stage": stage_dir.name, **model_and_seed(name), **one.row})
    guard = judge(next(iter(scored.values())), examples) if stage.guards else None
    pictures = write_evaluation(stage_dir, examples, scored, guard)
    print_table(examples, scored)
    if stage.guards and guard:
        _enforce(stage.guards, guard)
    first = next(iter(stage.evaluate.models.values()))
    link(stage_dir / "model", Path(os.path.relpath(Path(first).resolve(), stage_dir.resolve())))
    rows = {name: one.row for name, one in scored.items()}
    log_results(stage_dir, stage.tracking, stage.model_dump(), rows, pictures)


def at_speeds(classifiers: Mapping[str, Classifier], speeds: Sequence[float]) -> dict[str, Classifier]:
    """Models as they are, and those with branches at every speed besides.

    Where the first of them has branches, the plain model inside it goes before it, for all to be compared with.
    """
    first = next(iter(classifiers.values()))
    named: dict[str, Classifier] = {}
    if first.exit_rule is not None:
        named["all layers"] = replace(first, model=first.model.backbone, exit_rule=None)
    for name, classifier in classifiers.items():
        named[name] = classifier
        if classifier.exit_rule is not None:
            named |= {f"{name}{AT_SPEED}{speed:g}": classifier.at(speed) for speed in speeds}
    return named


def own_preprocessings(classifiers: Mapping[str, Classifier], default: Preprocessing) -> dict[str, Preprocessing]:
    """How each classifier was taught to read texts; the default where it does not say."""
    return {name: load_preprocessing(classifier, default) for name, classifier in classifiers.items()}


def of_teacher(
    classifiers: Mapping[str, Classifier], own: Mapping[str, Preprocessing], prepared: Preprocessing
) -> dict[str, Preprocessing]:
    """The first model reads texts as they were prepared, since these are the tokens that distillation feeds it.

    Raises:
        UserError: it was trained on tokens of another kind, not merely on longer or shorter rows.
    """
    first = next(iter(classifiers))
    directory = classifiers[first].directory
    if differences := _differences(own[first], prepared):
        raise UserError(
            f"the teacher {directory} was trained on other tokens than this run feeds it: {'; '.join(differences)}; or "
            "train the teacher again with this run's data settings"
        )
    return {name: prepared for name, classifier in classifiers.items() if classifier.directory == directory}


def _differences(own: Preprocessing, prepared: Preprocessing) -> list[str]:
    """Each with the setting under which the rows would be as the model knows them."""
    settings = [
        f"data.segment={own.segment}",
        f"data.hint_words={'FILE, of its words' if own.hint_words else 'none'}",
        f"data.columns={'label,text,text_pair' if own.pairs else 'label,text'}",
    ]
    compared = zip(_in_words(own), _in_words(prepared), settings, strict=True)
    return [
        f"{known:.120} where it learnt, {found:.120} in the rows of this run (set {setting})"
        for known, found, setting in compared
        if known != found
    ]


def _in_words(preprocessing: Preprocessing) -> list[str]:
    hint_words = [f"{category}: {' '.join(words)}" for category, words in preprocessing.hint_words.items()]
    return [
        f"segment {preprocessing.segment}",
        f"hint words {'; '.join(hint_words) or 'none'}",
        "pairs" if preprocessing.pairs else "single texts",
    ]


# ---------------------------------------------------------------------------------------------------- quality and size


def score_all(
    classifiers: Mapping[str, Classifier],
    preprocessings: Mapping[str, Preprocessing],
    examples: Examples,
    *,
    speed: bool,
) -> dict[str, Scored]:
    """Score every classifier on its tokens of the same texts; with `speed`, measure them in turn as well.

    Raises:
        UserError: a classifier has other labels than the examples.
    """
    scored = {name: _score(name, one, examples, preprocessings[name]) for name, one in classifiers.items()}
    if speed:
        for one, measured in zip(scored.values(), measure_speed(list(scored.values())), strict=True):
            one.row.update(measured)
    first = next(iter(scored.values())).row
    for one in scored.values():
        one.row.update(_compared(one.row, first, main_metric(examples.task)))
    return scored


def _score(name: str, classifier: Classifier, examples: Examples, preprocessing: Preprocessing) -> Scored:
    columns = _columns(name, classifier, examples)
    encodings, cut = classifier.encode(preprocessing, examples.texts, examples.text_pairs)
    answers = predict(classifier, encodings, BATCH_SIZE)
    logits_NC = answers.logits_NC[:, columns]
    row = {
        "split": examples.split,
        "rows": len(encodings),
        **scores(examples.task, logits_NC, examples.labels),
        "rows_cut": cut,
        "parameters": sum(parameter.numel() for parameter in classifier.model.parameters()),
        "size_mb": size_mb(classifier.directory),
        **({} if classifier.speed is None else {"speed": classifier.speed}),
        **({} if answers.layers_N is None else {"mean_layers": float(answers.layers_N.mean())}),
    }
    return Scored(classifier, encodings, logits_NC, answers.layers_N, row)


def _columns(name: str, classifier: Classifier, examples: Examples) -> list[int]:
    if examples.task == "regression":
        return list(range(len(classifier.labels)))
    try:
        return align_labels(classifier.label2id, examples.label2id)
    except UserError as error:
        raise UserError(f"{name} ({classifier.directory}): {error}") from error


def size_mb(directory: Path) -> float:
    """Megabytes (10^6) of the weights on disk."""
    files = list(directory.glob("*.safetensors")) or list(directory.glob("*.bin"))
    return sum(file.stat().st_size for file in files) / 1e6


def _compared(row: Mapping[str, Any], first: Mapping[str, Any], metric: str) -> dict[str, float]:
    """How many times better than the first model, and the share of its quality that is kept; what can be said of it."""
    ratios = {"quality_kept": (row[metric], first[metric])}
    if "latency_ms" in row:
        ratios["operations_ratio"] = first["operations_per_sample"], row["operations_per_sample"]
        ratios["latency_ratio"] = first["latency_ms"], row["latency_ms"]
        ratios["throughput_ratio"] = row["samples_per_second"], first["samples_per_second"]
        saved = first["timed_operations_per_sample"] / row["timed_operations_per_sample"]
        ratios["speedup_realised"] = row["samples_per_second"], first["samples_per_second"] * saved
    return {name: upper / lower for name, (upper, lower) in ratios.items() if lower}


def distillation_hurts(rows: Mapping[str, Mapping[str, Any]], metric: str) -> bool | None:
    """Whether `student` is worse than `student_alone`, by the mean over seeds; None unless both are there."""
    by_model: dict[str, list[float]] = defaultdict(list)
    for name, row in rows.items():
        if AT_SPEED not in name:
            by_model[model_and_seed(name)["model"]].append(row[metric])
    if not {"student", "student_alone"} <= set(by_model):
        return None
    return fmean(by_model["student"]) < fmean(by_model["student_alone"])


# --------------------------------------------------------------------------------------------------------------- speed


def measure_speed(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Operations, latency (one text at a time) and throughput (batches of 32 texts of like length) of each model.

    Operations are multiply-accumulates, the mean over all rows: `operations_per_sample` of the tokens there are,
    `operations_padded` of rows padded to the longest of all, as published figures count them.
    `timed_operations_per_sample` is the mean over the rows whose throughput is measured.
    """
    timed_rows = some_rows(len(scored[0].encodings), THROUGHPUT_ROWS)
    times = time_in_turn([one.classifier for one in scored], [one.encodings for one in scored])
    parts = {one.classifier.model: one.classifier for one in scored}  # at each speed it is the same model
    operations = {model: Operations.of(classifier) for model, classifier in parts.items()}
    return [
        _operations(one, operations[one.classifier.model], timed_rows) | asdict(time)
        for one, time in zip(scored, times, strict=True)
    ]


def _operations(one: Scored, operations: Operations, timed_rows: np.ndarray) -> dict[str, Any]:
    lengths_N, rule = np.array([len(row.input_ids) for row in one.encodings]), one.classifier.exit_rule
    per_row_N = operations.per_row(lengths_N, one.layers_N, rule)
    padded_N = operations.per_row(np.full_like(lengths_N, lengths_N.max()), one.layers_N, rule)
    means = {
        "operations_per_sample": per_row_N,
        "operations_padded": padded_N,
        "timed_operations_per_sample": per_row_N[timed_rows],
    }
    return {name: round(float(values.mean())) for name, values in means.items()}


# --------------------------------------------------------------------------------------------------------------- guard


def judge(scored: Scored, examples: Examples) -> dict[str, Any]:
    """Whether a model is surely better than one that knows nothing of the text.

    Single labels: the lower 95 % bound of the accuracy (Wilson) against the share of the largest class. Multi-label:
    micro-F1 against that of always giving the most frequent label. Numbers: the lower 95 % bound of Spearman's
    correlation (Fisher's z) against 0.
    """
    metric, num_rows = main_metric(examples.task), len(examples.labels)
    value = scored.row[metric]
    bound, label = value, None
    if examples.task == "regression":
        bound, baseline = fisher_lower_bound(value, num_rows), 0.0
    elif examples.task == "single_label":
        counts_C = np.bincount(examples.labels, minlength=len(examples.label2id))
        bound, baseline = wilson_lower_bound(value, num_rows), counts_C.max() / num_rows
        label = examples.names()[counts_C.argmax()]
    else:
        counts_C = examples.labels.sum(axis=0)
        # Precision is max / N, recall max / sum.
        baseline = 2 * counts_C.max() / (num_rows + counts_C.sum())
        label = examples.names()[counts_C.argmax()]
    return {
        "metric": metric,
        "value": value,
        "lower_bound": bound,
        "baseline": float(baseline),
        "baseline_label": label,
        "rows": num_rows,
        "passed": bool(bound > baseline),
    }


def _enforce(guards: Guards, guard: Mapping[str, Any]) -> None:
    """Stop, or say so, when the guard has not passed."""
    if guard["passed"]:
        return
    always = f"always answering {guard['baseline_label']!r} gives" if guard["baseline_label"] else "chance gives"
    found = (
        f"the teacher's {guard['metric']} is {guard['value']:.4f} on {guard['rows']:,} rows (lower 95 % bound "
        f"{guard['lower_bound']:.4f}), but {always} {guard['baseline']:.4f}"
    )
    if guards.teacher == "warn":
        print(f"warning: {found}; a student of it will be no better", flush=True)
        return
    raise RunError(
        f"{found}: there is nothing to distil. Train the teacher longer, look at its labels and its data report, or "
        "go on regardless with guards.teacher=warn"
    )


# ------------------------------------------------------------------------------------------------------ what is written


def write_evaluation(
    directory: Path, examples: Examples, scored: Mapping[str, Scored], guard: Mapping[str, Any] | None
) -> list[Path]:
    """Write evaluation.json, and the predictions and confusion matrix of every model.

    Returns:
        Pictures that compare speeds, where there are any.
    """
    content: dict[str, Any] = {
        "split": examples.split,
        "rows": len(examples.texts),
        "task": examples.task,
        "labels": examples.names(),
        "models": {name: _details(one, examples) for name, one in scored.items()},
    }
    if guard is not None:
        content["guard"] = guard
    hurts = distillation_hurts({name: one.row for name, one in scored.items()}, main_metric(examples.task))
    if hurts is not None:
        content["distillation_hurts"] = hurts
    if hurts:
        print("distillation hurt: the student alone, without a teacher, is better", flush=True)
    for name, one in scored.items():
        if one.classifier.speed is not None:  # one model at many speeds: what it is like by itself is enough to look at
            continue
        _write_predictions(directory / f"predictions_{name}.parquet", examples, one)
        if examples.task == "single_label":
            matrix_CC = confusion_matrix(one.logits_NC, examples.labels)
            plot_confusion(directory / f"confusion_{name}.png", matrix_CC, examples.names(), name)
    write_json(directory / "evaluation.json", content)
    return plot_speeds(directory, content["models"], main_metric(examples.task))


def _details(one: Scored, examples: Examples) -> dict[str, Any]:
    details = {
        "path": str(one.classifier.directory),
        **one.row,
        "per_class": per_class(examples.task, one.logits_NC, examples.labels, examples.names()),
    }
    if one.layers_N is not None:
        details["exit_layers"] = np.bincount(one.layers_N, minlength=one.classifier.num_layers + 1)[1:].tolist()
    if examples.task == "single_label":
        details["confusion_matrix"] = confusion_matrix(one.logits_NC, examples.labels).tolist()
    return details


def _write_predictions(path: Path, examples: Examples, one: Scored) -> None:
    """Columns text, (text_pair,) label, predicted, probability (of single labels, or of lists of labels), and
    (exit_layer)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pairs = {} if examples.text_pairs is None else {"text_pair": examples.text_pairs}
    exits = {} if one.layers_N is None else {"exit_layer": one.layers_N}
    columns = {"text": examples.texts, **pairs, **_predicted(examples, one.logits_NC), **exits}
    pq.write_table(pa.table(columns), path)


def _predicted(examples: Examples, logits_NC: np.ndarray) -> dict[str, Any]:
    if examples.task == "regression":
        return {"label": examples.labels.reshape(-1), "predicted": logits_NC[:, 0]}
    names = np.array(examples.names(), dtype=object)
    probabilities_NC = probabilities(examples.task, logits_NC)
    predicted = predictions(examples.task, logits_NC)
    if examples.task == "single_label":
        best = probabilities_NC[np.arange(len(predicted)), predicted]
        return {"label": names[examples.labels], "predicted": names[predicted], "probability": best}
    return {
        "label": [list(names[row > 0]) for row in examples.labels],
        "predicted": [list(names[row > 0]) for row in predicted],
        "probability": [list(p[row > 0]) for p, row in zip(probabilities_NC, predicted, strict=True)],
    }


def plot_confusion(path: Path, matrix_CC: np.ndarray, names: Sequence[str], title: str) -> None:
    """Draw rows of each true class by the class they were given; the colour is the share of the true class.

    Where no installed font can write the names, classes go by their numbers in `label2id`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    font = font_for("".join([title, *names]))
    size = 2.2 + max(3.0, 0.3 * len(names))
    shares_CC = matrix_CC / np.maximum(matrix_CC.sum(axis=1, keepdims=True), 1)
    settings = {"text.parse_math": False} | ({"font.family": font} if font else {})  # `$` is a character of names
    with rc_context(settings):
        figure = Figure(figsize=(size, size), dpi=110, layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shares_CC, cmap="Blues", vmin=0, vmax=1)
        for (true, given), count in np.ndenumerate(matrix_CC):
            if count:
                colour = "white" if shares_CC[true, given] > 0.5 else "black"
                axes.text(given, true, f"{count}", ha="center", va="center", color=colour, fontsize=6)
        shown = names if font else [str(number) for number in range(len(names))]
        axes.set_xticks(range(len(names)), shown, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), shown, fontsize=7)
        by_number = "" if font else " (by number: `labels` in evaluation.json)"
        axes.set(title=title if font else title.encode("ascii", "replace").decode(), xlabel=f"predicted{by_number}")
        axes.set_ylabel("label")
        figure.savefig(path)


def font_for(text: str) -> str | None:
    """An installed font that has every character of the text, matplotlib's own first; None if there is none."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    needed = {ord(character) for character in text if not character.isspace()}
    fonts = sorted(fontManager.ttflist, key=lambda font: font.name != "DejaVu Sans")
    # `Last Resort` has a box for every character.
    candidates = (font for font in fonts if not font.name.startswith("Last Resort"))
    return next((font.name for font in candidates if needed <= set(FT2Font(font.fname).get_charmap())), None)


def print_table(examples: Examples, scored: Mapping[str, Scored]) -> None:
    """Print a row for every model."""
    metrics = METRICS[examples.task]
    table = Table(title=f"{examples.split}: {len(examples.texts):,} rows")
    has_speed = any("latency_ms" in one.row for one in scored.values())
    has_exits = any(one.layers_N is not None for one in scored.values())
    exits = ["layers"] if has_exits else []
    speed = ["operations", "fewer", "latency ms", "p95", "samples/s", "faster"] if has_speed else []
    for header in ["model", *metrics, *exits, "parameters", "MB", *speed]:
        table.add_column(header, justify="left" if header == "model" else "right")
    for name, one in scored.items():
        table.add_row(name, *_cells(one, metrics, has_exits, has_speed))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _cells(one: Scored, metrics: Sequence[str], has_exits: bool, has_speed: bool) -> list[str]:
    row = one.row
    cells = [f"{row[metric]:.4f}" for metric in metrics]
    if has_exits:
        cells.append(f"{row.get('mean_layers', one.classifier.num_layers):.2f}")
    cells += [f"{row['parameters']:,}", f"{row['size_mb']:.1f}"]
    if not has_speed:
        return cells
    timing = [f"{row['latency_ms']:.2f}", f"{row['latency_p95_ms']:.2f}", f"{row['samples_per_second']:,.1f}"]
    operations = [f"{row['operations_per_sample'] / 1e6:,.1f} M", f"{row['operations_ratio']:.2f}x"]
    return [*cells, *operations, *timing, f"{row['throughput_ratio']:.2f}x"]


# --------------------------------------------------------------------------------------------------------- command line


def read_examples(options: argparse.Namespace, task: Task, label2id: dict[str, int]) -> Examples:
    """The rows of --data, for a model of these labels.

    Raises:
        CorpusError: options, files or rows that cannot be used; no row that can.
    """
    if not options.label_separator:
        raise UserError("--label-separator: at least one character")
    data = LabelledData(
        train=[options.data],
        columns=options.columns.split(","),
        header=options.header,
        task=task,
        label_separator=options.label_separator,
        bad_rows=options.bad_rows,
    )
    bad_rows = BadRows(skip=data.bad_rows == "skip")
    with _named_as_here():
        examples = read_rows(data, label2id, bad_rows)
    if bad_rows.counts:
        print(left_out(bad_rows.counts), file=sys.stderr)
    return examples


@contextmanager
def _named_as_here() -> Iterator[None]:
    """What is wrong with labelled rows is said in the settings of a stage, which are options of this command."""
    try:
        yield
    except CorpusError as error:
        options = re.sub(
            r"\bdata\.(columns|header|task|bad_rows)(=?)",
            lambda found: f"--{found[1].replace('_', '-')}{' ' * len(found[2])}",
            str(error),
        )
        raise CorpusError(options) from error


def named_models(models: Sequence[str]) -> dict[str, str]:
    """Models by name: `NAME=DIR`, else the folder's name, or its parent's where that says more."""
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
    """A `=` behind a `/` belongs to the path."""
    name, found, path = given.partition("=")
    return (name, path) if found and "/" not in name else ("", given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluation.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Score classifiers on labelled rows, and measure size and speed side by side.",
        epilog="example:\n  python kd_dist/evaluation.py --model teacher=runs/finetune/a/export "
        "--model student=runs/b/c/export --data test.tsv --columns label,text",
    )
    parser.add_argument(
        "--model", action="append", required=True, metavar="[NAME=]DIR", help="classifier; the first is compared with"
    )
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="labelled rows: tsv, csv, txt, json lines, parquet, plain or .gz"
    )
    parser.add_argument(
        "--columns", default="label,text", help="what the columns are: label,text[,text_pair], or text:NAME,label:NAME"
    )
    parser.add_argument("--header", choices=("auto", "yes", "no"), default="auto", help="first row of tsv and csv")
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
    options = _parser().parse_args()
    speeds = [checked_speed("--speeds", text) for text in options.speeds.split(",") if text]
    named = named_models(options.model)
    classifiers = {name: load_classifier(path) for name, path in named.items()}
    first = next(iter(classifiers.values()))
    first = replace(first, task=options.task or first.task)
    examples = read_examples(options, first.task, first.label2id)
    default = plain_preprocessing(first, pairs=examples.text_pairs is not None)
    if speeds and all(one.exit_rule is None for one in classifiers.values()):
        first.at(speeds[0])  # says that there are no branches
    if options.output:
        _make_folder(options.output)
    classifiers = at_speeds(classifiers, speeds)
    scored = score_all(classifiers, own_preprocessings(classifiers, default), examples, speed=not options.no_speed)
    if options.output:
        write_evaluation(options.output, examples, scored, None)
    print_table(examples, scored)
    return 0


def _make_folder(output: Path) -> None:
    """Before hours of scoring."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output {output}: {error.strerror}; give a folder, which is made if it is not there"
        ) from error


if __name__ == "__main__":
    exit_with_message(main)
