"""Early exit on the page: what each speed saves and costs, where rows exit, how thresholds were found."""

from collections.abc import Callable
from typing import Any

from kd_dist.evaluation.comparison import Model, score_name, score_title
from kd_dist.evaluation.model_key import OWN_THRESHOLDS
from kd_dist.evaluation.pictures.by_speed import exit_histograms, speed_tradeoffs
from kd_dist.evaluation.pictures.tradeoff import Curve, Point, Tradeoff
from kd_dist.reporting.page import Amount, Html, count, el, facts, join, number, section, share, table, times
from kd_dist.reporting.pictures import exit_layers, marker, tradeoff
from kd_dist.reporting.record import Row, StageRecord
from kd_dist.reporting.results import Column, StageComparison, measured_cell, score_cell
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

CALIBRATION_COLOUR = 2


def by_speed(comparison: StageComparison) -> Html:
    """Show what early exit saves at every speed and what it costs; nothing where no model exits early."""
    if not comparison.early_exits():
        return Html()
    return section(
        "Early exit",
        _table(comparison),
        _explanation(comparison),
        el("div", *map(tradeoff, speed_tradeoffs(comparison)), class_="figures pair"),
        _exit_layers(comparison),
        note=f"speed by speed · × against the {comparison.first().title()}",
    )


def _table(comparison: StageComparison) -> Html:
    plain = [model for model in comparison.models.values() if not model.exits_early()]
    models = [*plain, *(model for models in comparison.early_exits().values() for model in models)]
    columns = [column for column in COLUMNS if any(model.values(column[1]) for model in models)]
    scores = [name for name in comparison.scores if any(model.values(name) for model in models)]
    realised = ["realised"] if any(model.values("speedup_realised") for model in models) else []
    head = ["model", "speed", *map(score_name, scores), "kept", "layers", *(title for title, *_ in columns), *realised]
    rows = [
        [
            join([marker(comparison.look(model.name)), model.title()]),
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


def _speed(model: Model) -> str:
    if model.speed is not None:
        return f"{model.speed:g}"
    return OWN_THRESHOLDS if model.exits_early() else "—"


def _amount(value: float | None, form: Callable[[float], str]) -> Amount | None:
    return None if value is None else Amount(form(value))


def _explanation(comparison: StageComparison) -> Html:
    text = (
        "A text exits at the first layer where its uncertainty is below the speed: at 0 none exits early. Layers are "
        f"those used on average. With its {OWN_THRESHOLDS} a model is as it was exported."
    )
    exiting = [model for models in comparison.early_exits().values() for model in models]
    if any(model.values("operations_per_sample") for model in exiting):
        text += (
            " Operations are multiply-accumulates, the mean over all rows: of the tokens there are, and (padded) of "
            "rows padded to the longest, as published figures count them. Latency is for one text, texts/s for 32 at "
            "a time. Realised is the speed-up in texts/s as a share of that in operations: at 100% all the work that "
            "is saved is time that is saved."
        )
    return el("p", text, class_="muted note")


def _exit_layers(comparison: StageComparison) -> Html:
    """Show the layers at which rows exit, over all seeds."""
    histograms = exit_histograms(comparison, comparison.details())
    if not histograms:
        return Html()
    return el("div", exit_layers("Where rows exit", "share of the rows by layer", histograms), class_="wide")


def calibration(stage: StageRecord) -> Html:
    """Show the rule that was chosen, why, and what the others would have given; nothing before there is one."""
    found = stage.read("calibration.json")
    if not found:
        return Html()
    chosen, metric = found["chosen"], score_name(found["metric"])
    goal = _goal(stage.config.get("calibrate") or {}, metric)
    shown = {
        metric: _quality(chosen),
        f"{metric} with all layers": _quality(found["outcomes"][0]),
        "fewer operations": Html(times(chosen["speedup"])) if _is_known(chosen) else None,
        "mean layers": f"{chosen['mean_layers']:.2f} of {len(chosen['rule']['thresholds']) + 1}",
    }
    return section(
        f"Thresholds · {stage.name}",
        el("p", el("b", "A text exits "), _rule_in_words(chosen["rule"]), goal, class_="verdict idle"),
        facts(shown),
        _thresholds(chosen["rule"]),
        el("div", tradeoff(_outcomes(stage, found)), class_="figures pair"),
        note=f"on {found['rows']:,} validation rows",
    )


def _rule_in_words(rule: Row) -> str:
    thresholds = rule["thresholds"]
    measure = MEASURES[rule["measure"]].format(top_k=rule["top_k"])
    if rule["patience"] is not None:
        return f"when {rule['patience']} layers in a row predict the same."
    if not any(thresholds):
        return "after the last layer: no threshold keeps the promise and saves anything."
    if len(set(thresholds)) > 1:
        return f"when the {measure} is below the threshold of the layer."
    return f"when the {measure} is below {thresholds[0]:.6g}, at whichever layer."


def _goal(settings: Row, metric: str) -> str:
    """Describe the goal of the calibration; empty if the settings do not record it."""
    if settings.get("patience") is not None:
        return " This is calibrate.patience."
    if settings.get("target_speedup") is not None:
        return f" Of the rules that save {settings['target_speedup']:g}× of the operations this is the best."
    if settings.get("quality_budget") is None:
        return ""
    return f" Of the rules that lose at most {settings['quality_budget']:g} {metric} this is the fastest."


def _quality(outcome: Row) -> Amount | None:
    return Amount(f"{outcome['quality']:.4f}") if is_finite(outcome["quality"]) else None


def _thresholds(rule: Row) -> Html:
    """Show the thresholds layer by layer, where they differ."""
    thresholds = rule["thresholds"]
    if len(set(thresholds)) < 2 or rule["patience"] is not None:
        return Html()
    shown = [Amount(f"{threshold:.4g}") for threshold in thresholds]
    numbers = [f"{layer}" for layer in range(1, len(thresholds) + 1)]
    return el("div", table(["layer", *numbers], [["exit below", *shown]]), class_="below-facts")


def _outcomes(stage: StageRecord, found: Row) -> Tradeoff:
    """Plot what every candidate gives, and the least quality that was allowed."""
    settings, chosen = stage.config.get("calibrate") or {}, found["chosen"]
    known = sorted((one["speedup"], one["quality"]) for one in found["outcomes"] if _is_known(one))
    x, y = [x for x, _ in known], [y for _, y in known]
    look: dict[str, Any] = {"colour": CALIBRATION_COLOUR, "marker": "D"}
    budget, full = settings.get("quality_budget"), found["outcomes"][0]["quality"]
    has_budget = settings.get("patience") is None and settings.get("target_speedup") is None
    return Tradeoff(
        f"{score_title(found['metric'])} and operations saved",
        [Curve("candidates", x, y, [""] * len(x), CALIBRATION_COLOUR)] if known else [],
        [Point("chosen", chosen["speedup"], chosen["quality"], **look)] if _is_known(chosen) else [],
        "times fewer operations than with all layers",
        ("least allowed", full - budget) if has_budget and is_finite(budget) and is_finite(full) else None,
    )


def _is_known(outcome: Row) -> bool:
    return is_finite(outcome["speedup"]) and is_finite(outcome["quality"])
