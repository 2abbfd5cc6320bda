"""Plots of what is given up for what is saved, such as accuracy against speed. Sizes are in points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kd_dist.evaluation.pictures.drawing import Palette, drawing_style, format_tick, style_axes

NEAR = 0.035  # of the width or height of a plot: points as close as that share a name

PANEL_SIZE = (400, 256)
LEGEND_HEIGHT = 34


@dataclass(frozen=True)
class Point:
    """A model in a plot; `spread` of y is drawn upwards and downwards."""

    label: str
    x: float
    y: float
    spread: float = 0.0
    colour: int = 0
    marker: str = "o"
    hollow: bool = False


@dataclass(frozen=True)
class Curve:
    """A line through points, with the name of each point, empty where it has none."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    names: Sequence[str]
    colour: int = 0


@dataclass(frozen=True)
class Tradeoff:
    """A plot of what is given up (y) for what is saved (x); up and to the right is better.

    Args:
        title: what is plotted.
        curves: one for each model and all its speeds.
        points: models as they are.
        x_label: what x is.
        floor: name and value of a y that is pointed out.
        fewer_is_better: let x fall from left to right.
    """

    title: str
    curves: Sequence[Curve]
    points: Sequence[Point]
    x_label: str
    floor: tuple[str, float] | None = None
    fewer_is_better: bool = False


def tradeoff_figure(panels: Sequence[Tradeoff], y_label: str, palette: Palette) -> Any:
    """Return plots side by side that share their y and a legend below them."""
    from matplotlib.figure import Figure

    width, height = PANEL_SIZE
    size = (width * len(panels) / 72, (height + LEGEND_HEIGHT) / 72)
    labels = [curve.label for panel in panels for curve in panel.curves]
    labels += [point.label for panel in panels for point in panel.points]
    with drawing_style("".join([y_label, *labels])):
        figure = Figure(figsize=size, facecolor=palette.paper, layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw_tradeoff(axes, panel, palette)
            axes.set_facecolor(palette.paper)
        figure.axes[0].set_ylabel(y_label, color=palette.muted)
        handles = {label: handle for handle, label in zip(*figure.axes[0].get_legend_handles_labels(), strict=True)}
        legend = {"loc": "outside lower center", "ncols": 4, "frameon": False, "labelcolor": palette.ink}
        figure.legend(list(handles.values()), list(handles), **legend)
    return figure


def draw_tradeoff(axes: Any, tradeoff: Tradeoff, palette: Palette) -> None:
    """Draw into matplotlib axes; what is drawn has a label for a legend."""
    _set_limits(axes, tradeoff)
    style_axes(axes, palette)
    axes.set_xlabel(tradeoff.x_label, color=palette.muted, labelpad=5)
    if tradeoff.floor:
        label, level = tradeoff.floor
        axes.axhline(level, color=palette.muted, linewidth=1, linestyle=(0, (3, 2)), label=label)
    for curve in tradeoff.curves:
        _draw_curve(axes, curve, palette)
    for point in tradeoff.points:
        draw_point(axes, point, palette)


def _set_limits(axes: Any, tradeoff: Tradeoff) -> None:
    """Fix the limits, with room for names; a plot that hardly varies is not blown up to noise."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

    levels = [tradeoff.floor[1]] if tradeoff.floor else []
    x = [*(x for curve in tradeoff.curves for x in curve.x), *(point.x for point in tradeoff.points)]
    y = [*(y for curve in tradeoff.curves for y in curve.y), *(point.y for point in tradeoff.points), *levels]
    for set_limits, values, least in ((axes.set_xlim, x, 0.05 * max(x)), (axes.set_ylim, y, 1e-3)):
        margin = max(0.1 * (max(values) - min(values)), least)
        set_limits(min(values) - margin, max(values) + margin)
    if tradeoff.fewer_is_better:
        axes.invert_xaxis()
    for axis, formatter in ((axes.xaxis, EngFormatter(sep="")), (axes.yaxis, FuncFormatter(format_tick))):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(formatter)


def _draw_curve(axes: Any, curve: Curve, palette: Palette) -> None:
    """Draw a line with names above and to the right, where one that falls leaves room; close points share a name."""
    colour = palette.series[curve.colour]
    axes.plot(curve.x, curve.y, color=colour, linewidth=1.6, label=curve.label)
    named = [index for index, name in enumerate(curve.names) if name]
    points = [(curve.x[index], curve.y[index]) for index in named]
    for x, y in points:
        axes.plot(x, y, "o", color=colour, markersize=6, markeredgecolor=palette.paper)
    for group in close_points(axes_fractions(axes, points)):
        first, last = curve.names[named[group[0]]], curve.names[named[group[-1]]]
        name = first if first == last else f"{first}\N{EN DASH}{last}"
        axes.annotate(name, points[group[-1]], (5, 7), textcoords="offset points", color=palette.muted)


def draw_point(axes: Any, point: Point, palette: Palette) -> None:
    """Draw the marker of a model, and the spread of its y."""
    colour = palette.series[point.colour]
    face, edge = (palette.paper, colour) if point.hollow else (colour, palette.paper)
    if point.spread:
        axes.errorbar(point.x, point.y, yerr=point.spread, color=colour, linewidth=1.2, capsize=3)
    marker = {"color": face, "markeredgecolor": edge, "markeredgewidth": 1.6, "markersize": 8}
    axes.plot(point.x, point.y, point.marker, linestyle="none", label=point.label, **marker)


def close_points(places: Sequence[tuple[float, float]]) -> list[range]:
    """Group the consecutive points of a curve that fall together; places are fractions of the plot's size."""
    found: list[range] = []
    for index, (x, y) in enumerate(places):
        first = places[found[-1].start] if found else (math.inf, math.inf)
        if math.dist((x, y), first) <= NEAR:
            found[-1] = range(found[-1].start, index + 1)
        else:
            found.append(range(index, index + 1))
    return found


def axes_fractions(axes: Any, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return where points are, in fractions of the width and height of matplotlib axes."""
    to_fractions = axes.transData - axes.transAxes
    return [tuple(to_fractions.transform(point).tolist()) for point in points]
