"""What the page says of evaluation: models side by side, what distillation brought, and what is ready to be served.

Early exit at several speeds has a file of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from kd_dist.config.tasks import METRICS
from kd_dist.reporting.confusion import confusion
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
from kd_dist.reporting.record import Row, RunRecord, StageRecord, task_of
from kd_dist.reporting.scatter import Point, scatter, sign_of
from kd_dist.runs.metrics import is_finite

SCORE_NAMES = {"macro_f1": "macro F1", "micro_f1": "micro F1", "spearman": "Spearman", "pearson": "Pearson"}

CONFUSIONS_SHOWN = 8

FEW_CLASSES = 30


@dataclass
class Model:
    """A model of the comparison, or one with early exit at one speed, with a row of each of its seeds."""

    name: str
    rows: list[Row]
    speed: float | None = None

    def exits_early(self) -> bool:
        return bool(self.values("mean_layers"))

    def values(self, key: str) -> list[float]:
        return [row[key] for row in self.rows if is_finite(row.get(key))]

    def mean(self, key: str) -> float | None:
        values = self.values(key)
        return fmean(values) if values else None

    def spread(self, key: str) -> float | None:
        """Standard deviation over the seeds; None for one."""
        values = self.values(key)
        return stdev(values) if len(values) > 1 else None

    def title(self) -> str:
        return self.name.replace("_", " ")


@dataclass
class Comparison:
    """The models of an evaluate stage; they are compared with the first one.

    `at_speeds`: those with early exit at every speed, beside what they are by themselves; slow ones first.
    """

    stage: StageRecord
    models: dict[str, Model]
    at_speeds: list[Model]
    scores: Sequence[str]

    @property
    def metric(self) -> str:
        return self.scores[0]

    def first(self) -> Model:
        return next(iter(self.models.values()))

    def student(self) -> Model:
        """The model that the job is about."""
        return self.models.get("student") or list(self.models.values())[-1]

    def ratio(self, model: Model, key: str, *, larger_is_better: bool = False) -> float | None:
        """How many times better than the first model."""
        ours, theirs = model.mean(key), self.first().mean(key)
        if not ours or not theirs:
            return None
        return ours / theirs if larger_is_better else theirs / ours


def comparisons(run: RunRecord) -> list[Comparison]:
    """Of the evaluate stages those that compare; where none does, all of them."""
    found = [
        comparison for stage in run.of_kind("evaluate") if (comparison := _comparison(stage, run.results)) is not None
    ]
    return [comparison for comparison in found if len(comparison.models) > 1 or comparison.at_speeds] or found


def _comparison(stage: StageRecord, results: Sequence[Row]) -> Comparison | None:
    models: dict[str, Model] = {}
    at_speeds: dict[tuple[str, float], Model] = {}
    for row in results:
        if row.get("stage") != stage.name or "model" not in row:
            continue
        name, speed = row["model"], row.get("speed")
        if speed is None:
            models.setdefault(name, Model(name, [])).rows.append(row)
        else:
            at_speeds.setdefault((name, speed), Model(name, [], speed)).rows.append(row)
    task = task_of({key: 0 for model in models.values() for row in model.rows for key in row})
    in_order = [at_speeds[found] for found in sorted(at_speeds, key=lambda found: found[1])]
    return Comparison(stage, models, in_order, METRICS[task]) if task else None


def tiles(comparison: Comparison) -> list[Html]:
    """What one wants to know first of the student."""
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


def score_name(metric: str) -> str:
    return SCORE_NAMES.get(metric, metric.replace("_", " "))


def cell_of(value: float | None, form: str) -> str:
    return "—" if value is None else format(value, form)


def side_by_side(comparison: Comparison) -> Html:
    """The models of an evaluation, with what distillation brought."""
    rows = comparison.first().rows[0]
    note = f"{rows.get('split', '')} · {rows.get('rows', 0):,} rows"
    if len(comparison.models) > 1:
        note += f" · × against the {comparison.first().title()}"
    return section(
        "Results", distillation(comparison), _models_table(comparison), _pictures(comparison), _how(comparison),
        note=note,
    )  # fmt: skip


def _gain(comparison: Comparison) -> float | None:
    if not {"student", "student_alone"} <= set(comparison.models):
        return None
    ours, theirs = (comparison.models[name].mean(comparison.metric) for name in ("student", "student_alone"))
    return None if ours is None or theirs is None else ours - theirs


def distillation(comparison: Comparison) -> Html:
    """What distillation brought over the same student without a teacher; a warning when it hurt."""
    gain = _gain(comparison)
    if gain is None:
        return Html()
    student, alone = comparison.models["student"], comparison.models["student_alone"]
    metric, points = score_name(comparison.metric), f"{100 * abs(gain):.1f} points"
    means = [model.mean(comparison.metric) for model in (student, alone)]
    figures = f"{metric} {means[0]:.4f} against {means[1]:.4f}. "
    beyond, spread = _against_the_spread(gain, student, alone, comparison.metric)
    if gain < 0:
        told = f"the student is {points} worse than the same student trained without a teacher: {figures}"
        return verdict("open", el("b", "Distillation hurt: "), told, spread)
    if gain == 0:
        return verdict("idle", el("b", "Distillation changed nothing: "), figures, spread)
    told = f" over the same student without it: {figures}"
    is_good = gain > 0 and beyond is not False
    return verdict("good" if is_good else "idle", el("b", f"Distillation gained +{points}"), told, spread)


def _against_the_spread(gain: float, student: Model, alone: Model, metric: str) -> tuple[bool | None, str]:
    """Whether the difference is more than seeds make, and that in words; None for one seed."""
    spreads = [model.spread(metric) for model in (student, alone)]
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return None, "This is one seed: several would tell how much of it is chance."
    spread = math.hypot(*known)  # of the difference of two runs
    seeds = " and ".join(str(size) for size in dict.fromkeys(len(model.values(metric)) for model in (student, alone)))
    shown = f"the spread over {seeds} seeds (± {100 * spread:.1f} points)"
    return abs(gain) > spread, (
        f"That is more than {shown}." if abs(gain) > spread else f"That is within {shown} and may be chance."
    )


# (title, key, how a mean is written, whether more is better) of what is compared beside the scores
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
            join([sign(model.name), model.title()]),
            *([len(model.rows)] if seeds else []),
            *(score_cell(model, name) for name in scores),
            _kept(comparison, model),
            *(measured_cell(comparison, model, column) for column in columns),
        ]
        for model in models
    ]
    return table([*head, *(title for title, *_ in columns)], rows, class_="models")


def sign(name: str) -> Html:
    """The mark of a model in the plots."""
    return sign_of(**look(name))


def look(name: str) -> dict[str, Any]:
    """How a model is drawn: the teacher a square, the student a disc, hollow without distillation."""
    looks: dict[str, dict[str, Any]] = {
        "teacher": {"colour": 1, "marker": "s", "hollow": False},
        "student": {"colour": 0, "marker": "o", "hollow": False},
        "student_alone": {"colour": 7, "marker": "o", "hollow": True},
    }
    return looks.get(name, {"colour": 2, "marker": "D", "hollow": False})


def score_cell(model: Model, name: str) -> Any:
    """The mean, and its spread over seeds."""
    mean, spread = model.mean(name), model.spread(name)
    if mean is None:
        return None
    return Amount(join([f"{mean:.4f}", "" if spread is None else el("small", f"± {spread:.4f}")]))


def _kept(comparison: Comparison, model: Model) -> Any:
    kept = comparison.ratio(model, comparison.metric, larger_is_better=True)
    return None if kept is None else Amount(share(kept))


def measured_cell(comparison: Comparison, model: Model, column: Column) -> Any:
    """The mean, and how many times better than the first model it is."""
    _, key, shown, larger_is_better = column
    mean, ratio = model.mean(key), comparison.ratio(model, key, larger_is_better=larger_is_better)
    if mean is None:
        return None
    told = ratio is not None and model is not comparison.first()
    return Amount(join([shown(mean), el("small", times(ratio)) if told and ratio else ""]))


def _pictures(comparison: Comparison) -> Html:
    metric = score_name(comparison.metric)
    speed = scatter(
        f"{metric.capitalize()} and speed", _points(comparison, "samples_per_second"), "texts/s, 32 at a time"
    )
    size = scatter(f"{metric.capitalize()} and size", _points(comparison, "parameters"), "parameters")
    return el("div", speed, size, class_="figures pair") if len(comparison.models) > 1 else Html()


def _points(comparison: Comparison, key: str) -> list[Point]:
    found = []
    for model in comparison.models.values():
        x, y = model.mean(key), model.mean(comparison.metric)
        if x and y is not None:
            spread = model.spread(comparison.metric) or 0.0
            found.append(Point(model.title(), x, y, spread, **look(model.name)))
    return found


def _how(comparison: Comparison) -> Html:
    """How the figures came about, as far as it is known."""
    rows = [row for model in comparison.models.values() for row in model.rows]
    devices = list(dict.fromkeys(row["device"] for row in rows if row.get("device")))
    told = []
    if devices:
        told.append(
            f"Measured on {', '.join(devices)}, models in turn: latency is the median for one text, texts/s are for "
            "batches of 32 texts of like length; tokenising is not counted."
        )
    if any(len(model.rows) > 1 for model in comparison.models.values()):
        told.append("Means over seeds, ± their standard deviation.")
    if cut := max((row.get("rows_cut") or 0 for row in rows), default=0):
        told.append(f"Up to {cut:,} texts are longer than a model can read and were cut.")
    return el("p", " ".join(told), class_="muted note") if told else Html()


def by_class(comparison: Comparison) -> Html:
    """Which classes the student takes for which; nothing where there are no classes."""
    evaluation = comparison.stage.read("evaluation.json") or {}
    name = comparison.student().name
    details = (evaluation.get("models") or {}).get(name) or {}
    classes, matrix, names = details.get("per_class"), details.get("confusion_matrix"), evaluation.get("labels")
    shown = []
    if matrix and names:
        title = f"Confusion matrix of the {comparison.student().title()}"
        content = [confusion(title, matrix, names), _most_confused(matrix, names)]
        shown.append(folded(title, *content, is_open=len(names) <= FEW_CLASSES, note="label → predicted"))
    if classes:
        rows = [list(one.values()) for one in classes]
        shown.append(folded(f"{len(rows)} classes", table(list(classes[0]), rows)))
    note = f"{comparison.student().title()} · {evaluation.get('split')} · {evaluation.get('rows', 0):,} rows"
    return section("Class by class", *shown, note=note) if shown else Html()


def _most_confused(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Html:
    wrong = [
        (rows, true, given)
        for true, row in enumerate(matrix)
        for given, rows in enumerate(row)
        if rows and true != given
    ]
    largest = sorted(wrong, reverse=True)[:CONFUSIONS_SHOWN]
    rows = [[names[true], names[given], rows, Amount(share(rows / sum(matrix[true])))] for rows, true, given in largest]
    return table(["label", "taken for", "rows", "of the label"], rows) if rows else Html()


def teacher_checks(run: RunRecord) -> list[Html]:
    """The verdicts of the guards."""
    found = [(stage, (stage.read("evaluation.json") or {}).get("guard")) for stage in run.of_kind("evaluate")]
    return [_guard(stage, guard) for stage, guard in found if guard]


def _guard(stage: StageRecord, guard: Row) -> Html:
    always = f"always answering “{guard['baseline_label']}”" if guard["baseline_label"] else "chance"
    told = (
        f"{score_name(guard['metric'])} {guard['value']:.4f} on {guard['rows']:,} rows, lower 95 % bound "
        f"{guard['lower_bound']:.4f}; {always} gives {guard['baseline']:.4f}."
    )
    if guard["passed"]:
        return verdict("good", el("b", "The teacher is fit to teach: "), told)
    went_on = (stage.config.get("guards") or {}).get("teacher") == "warn"
    after = " The run went on, as guards.teacher=warn says." if went_on else " The run stopped here."
    return verdict("open", el("b", "The teacher has nothing to teach: "), told, after)


def serving(stage: StageRecord) -> Html:
    """What the export stage found out about ONNX."""
    check = stage.read("onnx_check.json")
    if not check:
        return Html()
    latency, shapes = check.get("latency_ms") or {}, check.get("difference_by_shape") or {}
    is_good = check["max_difference"] <= check["tolerance"]
    told = (
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
        verdict("good" if is_good else "open", el("b", f"The ONNX file is {'right' if is_good else 'wrong'}: "), told),
        facts(shown),
        folded("Difference by shape of the input", by_shape),
        note="one text at a time on the CPU",
    )
