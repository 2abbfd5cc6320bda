"""Plot what early exit saves and costs: of a stage's results, or of those that a run has on disk."""

from collections.abc import Callable, Iterable
from typing import Any

from kd_dist.evaluation.comparison import Comparison, Model, score_title
from kd_dist.evaluation.model_key import OWN_THRESHOLDS
from kd_dist.evaluation.pictures.exit_layers import Histogram
from kd_dist.evaluation.pictures.tradeoff import Curve, Point, Tradeoff

Measure = Callable[[Model], float | None]


def speed_tradeoffs(comparison: Comparison) -> list[Tradeoff]:
    """Plot the main score against operations saved and against throughput; or, if neither is known, against layers.

    Plots without a single known point are left out.
    """

    def operations(model: Model) -> float | None:
        return comparison.ratio(model, "operations_per_sample")

    quality = score_title(comparison.metric)
    saved = f"times fewer operations than the {comparison.first().title()}"
    panels = [
        _tradeoff(comparison, f"{quality} and operations saved", operations, saved),
        _tradeoff(comparison, f"{quality} and throughput", _mean("samples_per_second"), "texts/s, 32 at a time"),
    ]
    if not any(map(operations, [*comparison.models.values(), *comparison.at_speeds])):
        title, label = f"{quality} and layers", "layers used on average"
        panels = [_tradeoff(comparison, title, _mean("mean_layers"), label, fewer_is_better=True)]
    return [panel for panel in panels if panel.curves or panel.points]


def _mean(key: str) -> Measure:
    return lambda model: model.mean(key)


def _tradeoff(
    comparison: Comparison, title: str, measure: Measure, x_label: str, *, fewer_is_better: bool = False
) -> Tradeoff:
    """Plot the speeds of each model as a curve, and each model as it is as a point."""
    curves = []
    for name, models in comparison.early_exits().items():
        at_speeds = {f"{model.speed:g}": model for model in models if model.speed is not None}
        places = {speed: place for speed, model in at_speeds.items() for place in _place(comparison, model, measure)}
        xs, ys = [x for x, _ in places.values()], [y for _, y in places.values()]
        curves.append(Curve(f"{models[0].title()} by speed", xs, ys, list(places), comparison.look(name).colour))
    points = []
    for model in comparison.models.values():
        look = comparison.look(model.name)
        spread = model.spread(comparison.metric) or 0.0
        for x, y in _place(comparison, model, measure):
            points.append(Point(model.label(), x, y, spread, look.colour, look.marker, look.hollow))
    drawn = [curve for curve in curves if curve.x]
    return Tradeoff(title, drawn, points, x_label, fewer_is_better=fewer_is_better)


def _place(comparison: Comparison, model: Model, measure: Measure) -> list[tuple[float, float]]:
    """Return where a model stands, or nothing where one of the two is not known."""
    x, y = measure(model), model.mean(comparison.metric)
    return [] if x is None or y is None else [(x, y)]


def exit_histograms(comparison: Comparison, details: Iterable[dict[str, Any]]) -> list[Histogram]:
    """Count the rows that exit at each layer, for each model and speed, over all seeds.

    Args:
        comparison: of the same models.
        details: of each model as in evaluation.json; `exit_layers` holds the rows by layer, from the first on.
    """
    counts: dict[tuple[str, float | None], list[int]] = {}
    for one in details:
        if one.get("exit_layers"):
            key = one["model"], one.get("speed")
            before = counts.get(key, [0] * len(one["exit_layers"]))
            counts[key] = [sum(rows) for rows in zip(before, one["exit_layers"], strict=True)]
    has_several = len({model for model, _ in counts}) > 1
    return [
        Histogram(_name(model, speed, has_several), _mean_layer(rows), rows, comparison.look(model).colour)
        for (model, speed), rows in counts.items()
    ]


def _name(model: str, speed: float | None, has_several: bool) -> str:
    text = OWN_THRESHOLDS if speed is None else f"speed {speed:g}"
    return f"{model.replace('_', ' ')} · {text}" if has_several else text


def _mean_layer(counts: list[int]) -> str:
    mean = sum(layer * rows for layer, rows in enumerate(counts, start=1)) / (sum(counts) or 1)
    return f"{mean:.2f} layers on average"
