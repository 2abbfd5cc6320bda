"""Models as points: size and speed against quality."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_dist.evaluation.pictures import near_one_another, places_in, span
from kd_dist.reporting.page import Html, el, missing
from kd_dist.reporting.svg import INK, PAPER, SERIES, draw_svg, format_tick, swatch

SCATTER_HEIGHT, NAME_HEIGHT = 208, 13  # of the axes and of a name beside a point


@dataclass
class Point:
    label: str
    x: float
    y: float
    spread: float = 0.0  # of y, upwards and downwards
    colour: int = 0
    marker: str = "o"
    hollow: bool = False


def scatter(title: str, points: Sequence[Point], unit: str) -> Html:
    """Points with their names beside them over a logarithmic x; up and to the right is better."""
    if not points:
        return el("figure", el("figcaption", el("b", title)), missing("not measured"))
    caption = el("figcaption", el("b", title), el("span", unit, class_="unit"))
    return el("figure", caption, draw_svg(title, (400, 240), lambda axes: _draw_points(axes, points)))


def sign_of(colour: int, marker: str = "o", hollow: bool = False) -> Html:
    """The mark of a point, for legends and tables."""
    shape = {"s": " square", "D": " diamond"}.get(marker, "") + (" hollow" if hollow else "")
    return el("i", class_=f"sign{shape}", style=f"--c:var(--series-{colour + 1})")


def _draw_points(axes: Any, points: Sequence[Point]) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    x, y = np.array([point.x for point in points]), np.array([point.y for point in points])
    margin = max(0.2 * (y.max() - y.min()), 2 * max(point.spread for point in points), 1e-3)
    axes.set_xscale("log")
    axes.set_xlim(x.min() / 1.6, x.max() * 1.6)
    axes.set_ylim(y.min() - margin, y.max() + margin)
    to_the_right = [len(points) == 1 or point.x < np.sqrt(x.min() * x.max()) for point in points]
    unit = SCATTER_HEIGHT / (y.max() - y.min() + 2 * margin)
    for point, is_left, shift in zip(points, to_the_right, _shifts(y * unit, to_the_right), strict=True):
        _draw_point(axes, point)
        axes.annotate(
            point.label, (point.x, point.y), (10 if is_left else -10, shift),
            textcoords="offset points", ha="left" if is_left else "right", va="center", color=INK,
        )  # fmt: skip
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if x.max() / x.min() < 200 else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(format_tick))


def _draw_point(axes: Any, point: Point) -> None:
    colour = SERIES[point.colour]
    face, edge = (PAPER, colour) if point.hollow else (colour, PAPER)
    if point.spread:
        axes.errorbar(point.x, point.y, yerr=point.spread, color=colour, linewidth=1.2, capsize=3)
    axes.plot(point.x, point.y, point.marker, color=face, markeredgecolor=edge, markeredgewidth=1.6, markersize=8)


def _shifts(heights: np.ndarray, sides: Sequence[bool]) -> np.ndarray:
    """Points up or down that keep names on the same side clear of one another."""
    shifts = np.zeros(len(heights))
    for side in set(sides):
        members = [index for index in np.argsort(heights, kind="stable") if sides[index] == side]
        places: list[float] = []
        for index in members:
            places.append(max(heights[index], places[-1] + NAME_HEIGHT if places else heights[index]))
        pushed = np.array(places) - heights[members]
        shifts[members] = pushed - pushed.max() / 2 if len(members) > 1 else pushed
    return shifts


@dataclass
class Way:
    """What a setting does to a model, as a line; `names` of its points, empty where a point has none."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    names: Sequence[str]
    colour: int = 0


def tradeoff(
    title: str,
    ways: Sequence[Way],
    points: Sequence[Point],
    x_label: str,
    floor: tuple[str, float] | None = None,
    *,
    fewer_is_better: bool = False,
) -> Html:
    """Ways through models from slow to fast, and points beside them; up and to the right is better.

    `floor` is a value of y that is pointed out. Where fewer of x is better, x falls from left to right.
    """
    if not ways and not points:
        return el("figure", el("figcaption", el("b", title)), missing("not measured"))
    entries = [el("span", swatch("dash", way.colour), way.label) for way in ways]
    entries += [el("span", sign_of(point.colour, point.marker, point.hollow), point.label) for point in points]
    if floor:
        entries.append(el("span", el("i", class_="rule level"), floor[0]))
    caption = el("figcaption", el("b", title), el("div", *entries, class_="legend"))

    def draw(axes: Any) -> None:
        _frame(axes, ways, points, [floor[1]] if floor else [], fewer_is_better)
        if floor:
            axes.axhline(floor[1], color=INK, linewidth=1, linestyle=(0, (3, 2)))
        for way in ways:
            _draw_way(axes, way)
        for point in points:
            _draw_point(axes, point)

    return el("figure", caption, draw_svg(title, (400, 256), draw, x_label))


def _frame(
    axes: Any, ways: Sequence[Way], points: Sequence[Point], levels: Sequence[float], fewer_is_better: bool
) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

    x = np.array([*(x for way in ways for x in way.x), *(point.x for point in points)])
    y = np.array([*(y for way in ways for y in way.y), *(point.y for point in points), *levels])
    for limits, values, least in ((axes.set_xlim, x, 0.05 * x.max()), (axes.set_ylim, y, 1e-3)):
        margin = max(0.1 * (values.max() - values.min()), least)
        limits(values.min() - margin, values.max() + margin)
    if fewer_is_better:
        axes.invert_xaxis()
    for axis, shown in ((axes.xaxis, EngFormatter(sep="")), (axes.yaxis, FuncFormatter(format_tick))):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(shown)


def _draw_way(axes: Any, way: Way) -> None:
    """Names stand above and to the right, where a line that falls leaves room; near points share one."""
    colour = SERIES[way.colour]
    axes.plot(way.x, way.y, color=colour, linewidth=1.6)
    named = [index for index, name in enumerate(way.names) if name]
    points = [(way.x[index], way.y[index]) for index in named]
    for x, y in points:
        axes.plot(x, y, "o", color=colour, markersize=6, markeredgecolor=PAPER)
    for group in near_one_another(places_in(axes, points)):
        name = span(way.names[named[group[0]]], way.names[named[group[-1]]])
        axes.annotate(name, points[group[-1]], (5, 7), textcoords="offset points", color=INK)
