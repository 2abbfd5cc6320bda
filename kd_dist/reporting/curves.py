"""Curves over training steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_dist.evaluation.pictures.drawing import Palette, format_tick
from kd_dist.reporting.page import Html, el, missing
from kd_dist.reporting.svg import PAGE, draw_svg, swatch

LOG_DECADES = 1.5

SMOOTH_FROM_POINTS = 100

MAX_SMOOTH_POINTS = 400  # more than the plot has room for


@dataclass
class Line:
    """A curve.

    Args:
        label: in the legend; empty: it is not there.
        steps: x.
        values: y.
        colour: number of the colour in the palette.
        points: mark every point, as few are measured.
    """

    label: str
    steps: np.ndarray
    values: np.ndarray
    colour: int = 0
    points: bool = False


@dataclass
class Mark:
    """A step that is pointed out by a vertical line."""

    label: str
    step: int


def curves(title: str, lines: Sequence[Line], unit: str = "", kind: str = "number", mark: Mark | None = None) -> Html:
    """Return a plot over steps with its heading and legend, or its heading and a note that nothing was recorded.

    Args:
        title: the heading.
        lines: what to plot; lines without a point are left out.
        unit: beside the heading.
        kind: of the y axis: `number` (logarithmic where values differ by much), `from_zero`, `count` or `share`.
        mark: a step to point out.
    """
    lines = [line for line in lines if len(line.values)]
    if not lines:
        return el("figure", el("figcaption", el("b", title)), missing("not recorded"))
    entries = [_legend_entry(line) for line in lines if line.label] if len(lines) > 1 else []
    if mark:
        entries.append(el("span", el("i", class_="rule"), mark.label))
    caption = el("figcaption", el("b", title), el("span", unit, class_="unit"), el("div", *entries, class_="legend"))

    def draw(axes: Any) -> None:
        if mark:
            axes.axvline(mark.step, color=PAGE.muted, linewidth=1, linestyle=(0, (3, 2)))
        for line in lines:
            draw_line(axes, line, PAGE)
        scale_axes(axes, np.concatenate([line.values for line in lines]), kind)

    return el("figure", caption, draw_svg(f"{title} over steps", (340, 190), draw))


def _legend_entry(line: Line) -> Html:
    return el("span", swatch("dot" if line.points else "dash", line.colour), line.label)


def draw_line(axes: Any, line: Line, palette: Palette) -> None:
    """Draw a curve: few points as a line, marked where they are measured, and many as a moving average over them."""
    colour = palette.series[line.colour % len(palette.series)]
    if line.points or len(line.values) == 1:
        axes.plot(line.steps, line.values, color=colour, linewidth=0.8, alpha=0.5)
        axes.plot(line.steps, line.values, "o", color=colour, markersize=4.5, markeredgecolor=palette.paper)
    elif len(line.values) < SMOOTH_FROM_POINTS:
        axes.plot(line.steps, line.values, color=colour, linewidth=1.6)
    else:
        axes.plot(line.steps, line.values, color=colour, linewidth=0.6, alpha=0.35)
        every = -(-len(line.values) // MAX_SMOOTH_POINTS)
        axes.plot(line.steps[::every], _smooth(line.values)[::every], color=colour, linewidth=1.6)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return a centred moving average over a fortieth of the points; the window shrinks at the ends, which stay put."""
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, index[::-1]), max(1, len(values) // 80))
    total = np.concatenate([[0.0], np.cumsum(values)])
    return (total[index + half + 1] - total[index - half]) / (2 * half + 1)


def scale_axes(axes: Any, values: np.ndarray, kind: str) -> None:
    """Scale and label the axes of curves with these values; `kind` as for `curves`."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

    formats = {
        "number": FuncFormatter(format_tick),
        "count": EngFormatter(sep=""),
        "from_zero": FuncFormatter(format_tick),
        "share": PercentFormatter(1, decimals=None),
    }
    low, high = values.min(), values.max()
    if kind == "number" and low > 0 and high / low > 10**LOG_DECADES:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1e3 else (1,), numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        if kind != "number":
            axes.set_ylim(0, high * 1.1 or 1)
    axes.yaxis.set_major_formatter(formats[kind])
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
