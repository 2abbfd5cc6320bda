"""Models as points: size and speed against quality."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_dist.evaluation.pictures.drawing import format_tick
from kd_dist.evaluation.pictures.tradeoff import Point, draw_point
from kd_dist.reporting.page import Html, el, missing
from kd_dist.reporting.svg import PAGE, draw_svg

AXES_HEIGHT, NAME_HEIGHT = 208, 13  # of the axes and of a name beside a point, in points


def scatter(title: str, points: Sequence[Point], unit: str) -> Html:
    """Return points with their names beside them over a logarithmic x; up and to the right is better."""
    if not points:
        return el("figure", el("figcaption", el("b", title)), missing("not measured"))
    caption = el("figcaption", el("b", title), el("span", unit, class_="unit"))
    return el("figure", caption, draw_svg(title, (400, 240), lambda axes: _draw_points(axes, points)))


def _draw_points(axes: Any, points: Sequence[Point]) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    x, y = np.array([point.x for point in points]), np.array([point.y for point in points])
    margin = max(0.2 * (y.max() - y.min()), 2 * max(point.spread for point in points), 1e-3)
    axes.set_xscale("log")
    axes.set_xlim(x.min() / 1.6, x.max() * 1.6)
    axes.set_ylim(y.min() - margin, y.max() + margin)
    to_the_right = [len(points) == 1 or point.x < np.sqrt(x.min() * x.max()) for point in points]
    unit = AXES_HEIGHT / (y.max() - y.min() + 2 * margin)
    for point, is_left, shift in zip(points, to_the_right, _shifts(y * unit, to_the_right), strict=True):
        draw_point(axes, point, PAGE)
        axes.annotate(
            point.label, (point.x, point.y), (10 if is_left else -10, shift),
            textcoords="offset points", ha="left" if is_left else "right", va="center", color=PAGE.muted,
        )  # fmt: skip
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if x.max() / x.min() < 200 else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(format_tick))


def _shifts(heights: np.ndarray, sides: Sequence[bool]) -> np.ndarray:
    """Return the points up or down that keep names on the same side clear of one another."""
    shifts = np.zeros(len(heights))
    for side in set(sides):
        members = [index for index in np.argsort(heights, kind="stable") if sides[index] == side]
        places: list[float] = []
        for index in members:
            places.append(max(heights[index], places[-1] + NAME_HEIGHT if places else heights[index]))
        pushed = np.array(places) - heights[members]
        shifts[members] = pushed - pushed.max() / 2 if len(members) > 1 else pushed
    return shifts
