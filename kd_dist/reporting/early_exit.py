"""What the page says of early exit: what each speed saves and costs, where rows leave, how thresholds were found."""

from collections.abc import Callable, Sequence
from typing import Any

from kd_dist.evaluation.speeds import OWN_THRESHOLDS, model_and_seed
from kd_dist.reporting.bars import bars
from kd_dist.reporting.page import Amount, Html, count, el, facts, join, number, section, share, table, times
from kd_dist.reporting.record import Row, StageRecord
from kd_dist.reporting.results import Column, Comparison, Model, look, measured_cell, score_cell, score_name
from kd_dist.reporting.scatter import Point, Way, sign_of, tradeoff
from kd_dist.reporting.svg import SERIES
from kd_dist.runs.metrics import is_finite

COLUMNS: list[Column] = [
    ("operations a text", "operations_per_sample", count, False),
    ("padded", "operations_padded", count, False),
    ("latency, ms", "latency_ms", number, False),
    ("texts/s", "samples_per_second", number, True),
]

MEASURES = {
    "entropy": "normalised entropy of the prediction",
    "top_k_entropy": "normalised entropy of the {top_k} most probable classes",
    "margin": "uncertainty, one minus the margin between the two most probable classes,",
}

FIRST_COLOUR = 2  # the colour of the first model with early exit, after those of student and teacher


def by_speed(comparison: Comparison) -> Html:
    """What early exit saves at every speed and what it costs; nothing where no model exits early."""
    if not _exiting(comparison):
        return Html()
    return section(
        "Early exit",
        _table(comparison),
        _how(comparison),
        el("div", *_pictures(comparison), class_="figures pair"),
        _where_rows_leave(comparison),
        note=f"speed by speed · × against the {comparison.first().title()}",
    )


def _exiting(comparison: Comparison) -> dict[str, list[Model]]:
    """Each model with early exit: by itself, then from slow to fast."""
    found = {model.name: [model] for model in comparison.models.values() if model.exits_early()}
    for model in comparison.at_speeds:
        found.setdefault(model.name, []).append(model)
    return found


def _plain(comparison: Comparison) -> list[Model]:
    return [model for model in comparison.models.values() if not model.exits_early()]


def _table(comparison: Comparison) -> Html:
    models = [*_plain(comparison), *(model for models in _exiting(comparison).values() for model in models)]
    columns = [column for column in COLUMNS if any(model.values(column[1]) for model in models)]
    scores = [name for name in comparison.scores if any(model.values(name) for model in models)]
    realised = ["realised"] if any(model.values("speedup_realised") for model in models) else []
    head = ["model", "speed", *map(score_name, scores), "kept", "layers", *(title for title, *_ in columns), *realised]
    rows = [
        [
            join([sign_of(**_look(comparison, model.name)), model.title()]),
            Amount(_speed(model)),
            *(score_cell(model, name) for name in scores),
            _amount(model.mean("quality_kept"), share),
            _amount(model.mean("mean_layers"), "{:.2f}".format),
            *(measured_cell(comparison, model, column) for column in columns),
            *(_amount(model.mean(f"speedup_{name}"), share) for name in realised),
        ]
        for model in models
    ]
    return table(head, rows, class_="models")


def _look(comparison: Comparison, name: str) -> dict[str, Any]:
    """As everywhere on the page, but several models with early exit have several colours."""
    position = list(_exiting(comparison)).index(name) if name in _exiting(comparison) else 0
    return look(name) | ({"colour": (FIRST_COLOUR + position) % len(SERIES)} if position else {})


def _speed(model: Model) -> str:
    if model.speed is not None:
        return f"{model.speed:g}"
    return OWN_THRESHOLDS if model.exits_early() else "—"


def _amount(value: float | None, shown: Callable[[float], str]) -> Amount | None:
    return None if value is None else Amount(shown(value))


def _how(comparison: Comparison) -> Html:
    told = (
        "A text leaves as soon as its uncertainty is below the speed: 0 is never, and layers are those used on the "
        f"mean. At its {OWN_THRESHOLDS} a model is as it was exported."
    )
    if any(model.values("operations_per_sample") for models in _exiting(comparison).values() for model in models):
        told += (
            " Operations are multiply-accumulates, the mean over all rows: of the tokens there are, and (padded) of "
            "rows padded to the longest, as published figures count them. Latency is for one text, texts/s for 32 at "
            "a time. Realised is the speed-up in texts/s as a share of that in operations: at 100% all work that is "
            "saved is time that is saved."
        )
    return el("p", told, class_="muted note")


def _pictures(comparison: Comparison) -> list[Html]:
    """The score against what is saved; layers tell it where nothing is measured."""
    metric = score_name(comparison.metric).capitalize()

    def operations(model: Model) -> float | None:
        return comparison.ratio(model, "operations_per_sample")

    def throughput(model: Model) -> float | None:
        return model.mean("samples_per_second")

    def layers(model: Model) -> float | None:
        return model.mean("mean_layers")

    first = comparison.first().title()
    axes = [
        (f"{metric} and operations saved", operations, f"times fewer operations than the {first}"),
        (f"{metric} and throughput", throughput, "texts/s, 32 at a time"),
    ]
    models = [*comparison.models.values(), *comparison.at_speeds]
    if not any(map(operations, models)):
        axes = [(f"{metric} and layers", layers, "layers used on the mean")]
        return [_picture(comparison, *axes[0], fewer_is_better=True)]
    return [_picture(comparison, *axis) for axis in axes]


def _picture(
    comparison: Comparison,
    title: str,
    of: Callable[[Model], float | None],
    x_label: str,
    *,
    fewer_is_better: bool = False,
) -> Html:
    ways = []
    for name, models in _exiting(comparison).items():
        at_speeds = [model for model in models if model.speed is not None]
        places = {f"{model.speed:g}": place for model in at_speeds for place in _place(comparison, model, of)}
        x, y = [x for x, _ in places.values()], [y for _, y in places.values()]
        ways.append(Way(f"{models[0].title()} by speed", x, y, list(places), _look(comparison, name)["colour"]))
    points = [
        Point(_label(model), x, y, model.spread(comparison.metric) or 0.0, **_look(comparison, model.name))
        for model in comparison.models.values()
        for x, y in _place(comparison, model, of)
    ]
    return tradeoff(title, [way for way in ways if way.x], points, x_label, fewer_is_better=fewer_is_better)


def _label(model: Model) -> str:
    return f"{model.title()}, {OWN_THRESHOLDS}" if model.exits_early() else model.title()


def _place(
    comparison: Comparison, model: Model, of: Callable[[Model], float | None]
) -> list[tuple[float, float]]:  # none where something is not known
    x, y = of(model), model.mean(comparison.metric)
    return [] if x is None or y is None else [(x, y)]


def _where_rows_leave(comparison: Comparison) -> Html:
    """Histograms of the layers at which rows left, all seeds together."""
    evaluation = comparison.stage.read("evaluation.json") or {}
    leaving: dict[tuple[str, float | None], list[int]] = {}
    for name, details in (evaluation.get("models") or {}).items():
        if details.get("exit_layers"):
            found = model_and_seed(name)["model"], details.get("speed")
            before = leaving.get(found, [0] * len(details["exit_layers"]))
            leaving[found] = [sum(rows) for rows in zip(before, details["exit_layers"], strict=True)]
    if not leaving:
        return Html()
    several = len({model for model, _ in leaving}) > 1
    rows = [
        (_name_of(model, speed, several), _mean_layer(counts), counts) for (model, speed), counts in leaving.items()
    ]
    colour = _look(comparison, next(iter(leaving))[0])["colour"]
    picture = bars("Where rows leave", "share of the rows by layer", rows, "layer", colour)
    return el("div", picture, class_="wide")


def _name_of(model: str, speed: float | None, several: bool) -> str:
    told = OWN_THRESHOLDS if speed is None else f"speed {speed:g}"
    return f"{model.replace('_', ' ')} · {told}" if several else told


def _mean_layer(counts: Sequence[int]) -> str:
    rows = sum(counts)
    mean = sum(layer * number for layer, number in enumerate(counts, start=1)) / (rows or 1)
    return f"{mean:.2f} layers on the mean"


def calibration(stage: StageRecord) -> Html:
    """The rule that was chosen, why, and what the others would have given; nothing before there is one."""
    found = stage.read("calibration.json")
    if not found:
        return Html()
    chosen, metric = found["chosen"], score_name(found["metric"])
    wish = _wish(stage.config.get("calibrate") or {}, metric)
    shown = {
        metric: _quality(chosen),
        f"{metric} with all layers": _quality(found["outcomes"][0]),
        "fewer operations": Html(times(chosen["speedup"])) if _is_known(chosen) else None,
        "mean layers": f"{chosen['mean_layers']:.2f} of {len(chosen['rule']['thresholds']) + 1}",
    }
    return section(
        f"Thresholds · {stage.name}",
        el("p", el("b", "A text leaves "), _in_words(chosen["rule"]), wish, class_="verdict idle"),
        facts(shown),
        _thresholds(chosen["rule"]),
        el("div", _outcomes(stage, found, metric), class_="figures pair"),
        note=f"on {found['rows']:,} validation rows",
    )


def _in_words(rule: Row) -> str:
    thresholds = rule["thresholds"]
    measure = MEASURES[rule["measure"]].format(top_k=rule["top_k"])
    if rule["patience"] is not None:
        return f"when {rule['patience']} layers in a row give the same answer."
    if not any(thresholds):
        return "after the last layer: no threshold keeps the promise and saves anything."
    if len(set(thresholds)) > 1:
        return f"when the {measure} is below the threshold of the layer."
    return f"when the {measure} is below {thresholds[0]:.6g}, at whichever layer."


def _wish(settings: Row, metric: str) -> str:
    """What was asked of the calibration; nothing where the settings do not tell."""
    if settings.get("patience") is not None:
        return " So says calibrate.patience."
    if settings.get("target_speedup") is not None:
        return f" Of the rules that save {settings['target_speedup']:g}× of the operations this is the best."
    if settings.get("quality_budget") is None:
        return ""
    return f" Of the rules that lose at most {settings['quality_budget']:g} {metric} this is the fastest."


def _quality(outcome: Row) -> Amount | None:
    return Amount(f"{outcome['quality']:.4f}") if is_finite(outcome["quality"]) else None


def _thresholds(rule: Row) -> Html:
    """Layer by layer, where layers differ."""
    thresholds = rule["thresholds"]
    if len(set(thresholds)) < 2 or rule["patience"] is not None:
        return Html()
    shown = [Amount(f"{threshold:.4g}") for threshold in thresholds]
    numbers = [f"{layer}" for layer in range(1, len(thresholds) + 1)]
    return el("div", table(["layer", *numbers], [["leave below", *shown]]), class_="below-facts")


def _outcomes(stage: StageRecord, found: Row, metric: str) -> Html:
    """What every choice would have given, and the least that was allowed."""
    settings, chosen = stage.config.get("calibrate") or {}, found["chosen"]
    known = sorted((one["speedup"], one["quality"]) for one in found["outcomes"] if _is_known(one))
    x, y = zip(*known, strict=True) if known else ((), ())
    points = [Point("chosen", chosen["speedup"], chosen["quality"], colour=FIRST_COLOUR, marker="D")]
    budget, full = settings.get("quality_budget"), found["outcomes"][0]["quality"]
    has_budget = settings.get("patience") is None and settings.get("target_speedup") is None
    floor = ("least allowed", full - budget) if has_budget and is_finite(budget) and is_finite(full) else None
    return tradeoff(
        f"{metric.capitalize()} and operations saved",
        [Way("choices", x, y, [""] * len(x), FIRST_COLOUR)] if known else [],
        points if _is_known(chosen) else [],
        "times fewer operations than with all layers",
        floor,
    )


def _is_known(outcome: Row) -> bool:
    return is_finite(outcome["speedup"]) and is_finite(outcome["quality"])
