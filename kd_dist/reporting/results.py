"""Evaluation on the page: models side by side, what distillation gained, and what is ready to be served."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kd_dist.config.tasks import METRICS
from kd_dist.data.prepared_rows import STATISTICS
from kd_dist.evaluation.comparison import Comparison, Model, group_rows, score_name, score_title
from kd_dist.evaluation.confusion import Confusion
from kd_dist.evaluation.pictures.tradeoff import Point
from kd_dist.reporting.page import (
    Amount,
    Html,
    count,
    el,
    facts,
    folded,
    join,
    number,
    section,
    share,
    table,
    tile,
    times,
    verdict,
)
from kd_dist.reporting.pictures import confusion_matrix, marker
from kd_dist.reporting.record import Row, RunRecord, StageRecord, task_of_scores, with_key_fields
from kd_dist.reporting.scatter import scatter

CONFUSIONS_SHOWN = 8

FEW_CLASSES = 30


@dataclass
class StageComparison(Comparison):
    """The models of an evaluate stage."""

    stage: StageRecord

    @cached_property
    def evaluation(self) -> Row:
        """The stage's evaluation.json; empty where there is none (yet)."""
        return self.stage.read("evaluation.json") or {}

    def details(self) -> list[Row]:
        """Return what evaluation.json holds of each model and speed."""
        return [with_key_fields(name, details) for name, details in (self.evaluation.get("models") or {}).items()]


def comparisons(run: RunRecord) -> list[StageComparison]:
    """Return the evaluate stages with several models or speeds; where there are none, all evaluate stages."""
    found = [
        comparison for stage in run.of_kind("evaluate") if (comparison := _comparison(stage, run.results)) is not None
    ]
    return [comparison for comparison in found if len(comparison.models) > 1 or comparison.at_speeds] or found


def _comparison(stage: StageRecord, results: Sequence[Row]) -> StageComparison | None:
    models, at_speeds = group_rows(row for row in results if row.get("stage") == stage.name and "model" in row)
    task = task_of_scores({key: 0 for model in models.values() for row in model.rows for key in row})
    return StageComparison(models, at_speeds, METRICS[task], stage) if task else None


def tiles(comparison: Comparison) -> list[Html]:
    """Return what one wants to know first about the student."""
    student, metric = comparison.student(), score_name(comparison.metric)
    quality = student.mean(comparison.metric)
    split = student.rows[0].get("split", "held-out")
    shown = [tile(student.title(), cell_of(quality, ".4f"), f"{metric} on {split} rows")]
    if student is comparison.first():
        return shown
    if kept := comparison.ratio(student, comparison.metric, larger_is_better=True):
        shown.append(tile("Quality kept", share(kept), f"of the {comparison.first().title()}'s {metric}"))
    if (gain := _gain(comparison)) is not None:
        shown.append(tile("Distillation", f"{100 * gain:+.1f} points", "over the student without it"))
    measures = [("Smaller", "parameters", "parameters"), ("Faster", "latency_ms", "ms for one text")]
    if student.exits_early():  # branches make it larger; what it saves is work
        measures[0] = ("Fewer operations", "operations_per_sample", "a text")
    for title, key, unit in measures:
        if ratio := comparison.ratio(student, key):
            before, after = (count(model.mean(key) or 0) for model in (comparison.first(), student))
            shown.append(tile(title, times(ratio), f"{before} → {after} {unit}"))
    return shown


def in_one_sentence(comparison: Comparison) -> Html:
    """Say what the student keeps, what distillation gained and how much faster it is; nothing where one is unknown."""
    student, teacher, metric = comparison.student(), comparison.first(), comparison.metric
    kept = comparison.ratio(student, metric, larger_is_better=True)
    faster = comparison.ratio(student, "samples_per_second", larger_is_better=True)
    gain = _gain(comparison)
    if kept is None or faster is None or gain is None:
        return Html()
    scores = " of ".join(cell_of(model.mean(metric), ".4f") for model in (student, teacher))
    than_alone = f"{100 * abs(gain):.1f} points {'worse' if gain < 0 else 'better'}"
    if teacher is comparison.models["student_alone"]:  # it learnt from soft labels in files, whose teacher is elsewhere
        text = f"The distilled student has {score_name(metric)} {cell_of(student.mean(metric), '.4f')}, {than_alone} "
        return el("p", text + "than the same student without distillation.", class_="lead")
    return el(
        "p",
        f"The distilled student keeps {share(kept)} of the teacher's {score_name(metric)} ({scores}), is {than_alone} "
        f"than the same student without distillation, and classifies {times(faster)} as many texts a second.",
        class_="lead",
    )


def cell_of(value: float | None, form: str) -> str:
    """Return a number in a format, or a dash for one that is not known."""
    return "—" if value is None else format(value, form)


def side_by_side(comparison: Comparison) -> Html:
    """Show the models of an evaluation, with what distillation gained."""
    row = comparison.first().rows[0]
    note = f"{row.get('split', '')} · {row.get('rows', 0):,} rows"
    if len(comparison.models) > 1:
        note += f" · × against the {comparison.first().title()}"
    return section(
        "Results", distillation(comparison), _models_table(comparison), _pictures(comparison), _explanation(comparison),
        note=note,
    )  # fmt: skip


def _gain(comparison: Comparison) -> float | None:
    if not {"student", "student_alone"} <= set(comparison.models):
        return None
    ours, theirs = (comparison.models[name].mean(comparison.metric) for name in ("student", "student_alone"))
    return None if ours is None or theirs is None else ours - theirs


def distillation(comparison: Comparison) -> Html:
    """Show what distillation gained over the same student without a teacher; a warning when it hurt."""
    gain = _gain(comparison)
    if gain is None:
        return Html()
    student, alone = comparison.models["student"], comparison.models["student_alone"]
    metric, points = score_name(comparison.metric), f"{100 * abs(gain):.1f} points"
    means = [model.mean(comparison.metric) for model in (student, alone)]
    figures = f"{metric} {means[0]:.4f} against {means[1]:.4f}. "
    beyond, spread = _against_the_spread(gain, student, alone, comparison.metric)
    if gain < 0:
        text = f"the student is {points} worse than the same student trained without a teacher: {figures}"
        return verdict("open", el("b", "Distillation hurt: "), text, spread)
    if gain == 0:
        return verdict("idle", el("b", "Distillation changed nothing: "), figures, spread)
    text = f" over the same student without it: {figures}"
    is_good = gain > 0 and beyond is not False
    return verdict("good" if is_good else "idle", el("b", f"Distillation gained +{points}"), text, spread)


def _against_the_spread(gain: float, student: Model, alone: Model, metric: str) -> tuple[bool | None, str]:
    """Return whether the difference is more than the seeds differ (None for one seed), and that in words."""
    spreads = [model.spread(metric) for model in (student, alone)]
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return None, "This is one seed: several would show how much of it is chance."
    spread = math.hypot(*known)  # of the difference of two runs
    seeds = " and ".join(str(size) for size in dict.fromkeys(len(model.values(metric)) for model in (student, alone)))
    shown = f"the spread over {seeds} seeds (± {100 * spread:.1f} points)"
    return abs(gain) > spread, (
        f"That is more than {shown}." if abs(gain) > spread else f"That is within {shown} and may be chance."
    )


# Title, key, how a mean is written, and whether more is better.
Column = tuple[str, str, Callable[[float], str], bool]

COLUMNS: list[Column] = [
    ("parameters", "parameters", count, False),
    ("size, MB", "size_mb", number, False),
    ("operations a text", "operations_per_sample", count, False),
    ("latency, ms", "latency_ms", number, False),
    ("texts/s", "samples_per_second", number, True),
]


def _models_table(comparison: Comparison) -> Html:
    models = list(comparison.models.values())
    columns = [column for column in COLUMNS if any(model.values(column[1]) for model in models)]
    scores = [name for name in comparison.scores if any(model.values(name) for model in models)]
    seeds = any(len(model.rows) > 1 for model in models)
    head = ["model", *(["seeds"] if seeds else []), *map(score_name, scores), "quality kept"]
    rows = [
        [
            join([marker(comparison.look(model.name)), model.title()]),
            *([len(model.rows)] if seeds else []),
            *(score_cell(model, name) for name in scores),
            _kept(comparison, model),
            *(measured_cell(comparison, model, column) for column in columns),
        ]
        for model in models
    ]
    return table([*head, *(title for title, *_ in columns)], rows, class_="models")


def score_cell(model: Model, name: str) -> Any:
    """Return the mean, and its spread over seeds."""
    mean, spread = model.mean(name), model.spread(name)
    if mean is None:
        return None
    return Amount(join([f"{mean:.4f}", "" if spread is None else el("small", f"± {spread:.4f}")]))


def _kept(comparison: Comparison, model: Model) -> Any:
    kept = comparison.ratio(model, comparison.metric, larger_is_better=True)
    return None if kept is None else Amount(share(kept))


def measured_cell(comparison: Comparison, model: Model, column: Column) -> Any:
    """Return the mean, and how many times better than the first model it is."""
    _, key, form, larger_is_better = column
    mean, ratio = model.mean(key), comparison.ratio(model, key, larger_is_better=larger_is_better)
    if mean is None:
        return None
    has_ratio = ratio is not None and model is not comparison.first()
    return Amount(join([form(mean), el("small", times(ratio)) if has_ratio and ratio else ""]))


def _pictures(comparison: Comparison) -> Html:
    quality = score_title(comparison.metric)
    speed = scatter(f"{quality} and speed", _points(comparison, "samples_per_second"), "texts/s, 32 at a time")
    size = scatter(f"{quality} and size", _points(comparison, "parameters"), "parameters")
    return el("div", speed, size, class_="figures pair") if len(comparison.models) > 1 else Html()


def _points(comparison: Comparison, key: str) -> list[Point]:
    found = []
    for model in comparison.models.values():
        x, y = model.mean(key), model.mean(comparison.metric)
        if x and y is not None:
            look, spread = comparison.look(model.name), model.spread(comparison.metric) or 0.0
            found.append(Point(model.title(), x, y, spread, look.colour, look.marker, look.hollow))
    return found


def _explanation(comparison: Comparison) -> Html:
    """Describe how the figures were measured, as far as it is known."""
    rows = [row for model in comparison.models.values() for row in model.rows]
    devices = list(dict.fromkeys(row["device"] for row in rows if row.get("device")))
    sentences = []
    if devices:
        sentences.append(
            f"Measured on {', '.join(devices)}, models in turn: latency is the median for one text, texts/s are for "
            "batches of 32 texts of similar length; tokenizing is not counted."
        )
    if any(len(model.rows) > 1 for model in comparison.models.values()):
        sentences.append("Means over seeds, ± their standard deviation.")
    if cut := max((row.get("rows_cut") or 0 for row in rows), default=0):
        sentences.append(f"Up to {cut:,} texts are longer than a model can read and were cut.")
    return el("p", " ".join(sentences), class_="muted note") if sentences else Html()


def by_class(comparison: StageComparison) -> Html:
    """Show which classes the student takes for which; nothing where there are no classes."""
    evaluation, title = comparison.evaluation, comparison.student().title()
    details = (evaluation.get("models") or {}).get(comparison.student().name) or {}
    classes, names, matrix = details.get("per_class"), evaluation.get("labels"), Confusion.of_fields(details)
    shown = []
    if matrix and names:
        title_of_matrix = f"Confusion matrix of the {title}"
        content = [confusion_matrix(title_of_matrix, matrix, names), _most_confused(matrix, names)]
        is_open = len(names) <= FEW_CLASSES
        shown.append(folded(title_of_matrix, *content, is_open=is_open, note="label → predicted"))
    if classes:
        rows = [list(one.values()) for one in classes]
        shown.append(folded(f"{len(rows)} classes", table(list(classes[0]), rows)))
    note = f"{title} · {evaluation.get('split')} · {evaluation.get('rows', 0):,} rows"
    return section("Class by class", *shown, note=note) if shown else Html()


def _most_confused(confusion: Confusion, names: Sequence[str]) -> Html:
    support = dict(zip(confusion.classes_K.tolist(), confusion.support_K.tolist(), strict=True))
    rows = [
        [names[true], names[given], number_of_rows, Amount(share(number_of_rows / support[true]))]
        for true, given, number_of_rows in confusion.pairs(CONFUSIONS_SHOWN)
    ]
    return table(["label", "taken for", "rows", "of the label"], rows) if rows else Html()


VERDICTS = {  # of a guard that passed, and of one that did not, by the kind of stage
    "evaluate": ("The teacher is fit to teach: ", "The teacher has nothing to teach: "),
    "soft_labels": ("The soft labels are fit to teach: ", "The soft labels have nothing to teach: "),
}


def teacher_checks(run: RunRecord) -> list[Html]:
    """Show the verdicts of the guards, on a teacher or on soft labels from files."""
    facts = [(stage, stage.read("evaluation.json")) for stage in run.of_kind("evaluate")]
    facts += [(stage, stage.read("tokens", STATISTICS)) for stage in run.of_kind("soft_labels")]
    return [_guard(stage, found["guard"]) for stage, found in facts if found and found.get("guard")]


def _guard(stage: StageRecord, guard: Row) -> Html:
    passed, failed = VERDICTS[stage.kind]
    always = f"always answering “{guard['baseline_label']}”" if guard["baseline_label"] else "chance"
    text = (
        f"{score_name(guard['metric'])} {guard['value']:.4f} on {guard['rows']:,} rows, lower 95 % bound "
        f"{guard['lower_bound']:.4f}; {always} gives {guard['baseline']:.4f}."
    )
    if guard["passed"]:
        return verdict("good", el("b", passed), text)
    went_on = (stage.config.get("guards") or {}).get("teacher") == "warn"
    after = " The run went on, as guards.teacher=warn says." if went_on else " The run stopped here."
    return verdict("open", el("b", failed), text, after)


def serving(stage: StageRecord) -> Html:
    """Show how the ONNX file of a serve stage compares with PyTorch."""
    check = stage.read("onnx_check.json")
    if not check:
        return Html()
    latency, shapes = check.get("latency_ms") or {}, check.get("difference_by_shape") or {}
    is_good = check["max_difference"] <= check["tolerance"]
    text = (
        f"logits differ from PyTorch's by at most {check['max_difference']:.1e}, {check['tolerance']:.0e} is allowed."
    )
    shown: dict[str, Any] = {"file, MB": check.get("size_mb"), "tokens of the text": check.get("latency_tokens")}
    shown |= {f"{name}, ms": taken for name, taken in latency.items()}
    if {"torch", "onnxruntime"} <= set(latency) and latency["onnxruntime"]:
        shown["onnxruntime is faster"] = Html(times(latency["torch"] / latency["onnxruntime"]))
    rows = [[shape, difference] for shape, difference in shapes.items()]
    by_shape = table(["texts × tokens", "largest difference"], rows) if rows else ""
    return section(
        f"Serving · {stage.name}",
        verdict("good" if is_good else "open", el("b", f"The ONNX file is {'right' if is_good else 'wrong'}: "), text),
        facts(shown),
        folded("Difference by shape of the input", by_shape),
        note="one text at a time on the CPU",
    )
