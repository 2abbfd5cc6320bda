"""Histograms of the layers at which rows exit. Sizes are in points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kd_dist.evaluation.pictures.drawing import TOOLTIP, Palette, drawing_style, full_axes

NAME_WIDTH, ROW_HEIGHT, FOOT_HEIGHT, MARGIN = 164, 64, 40, 8
ALL_BARS_WIDTH, MIN_BAR_WIDTH, MAX_BAR_WIDTH = 750, 34, 62


@dataclass(frozen=True)
class Histogram:
    """Numbers of rows that exit at each layer, from the first on; `note` is written below the name."""

    name: str
    note: str
    counts: Sequence[int]
    colour: int = 0


def exit_layers_figure(histograms: Sequence[Histogram], palette: Palette) -> Any:
    """Return histograms one below the other, each by shares of its own rows."""
    from matplotlib.figure import Figure

    num_layers = max(len(histogram.counts) for histogram in histograms)
    bar_width = max(MIN_BAR_WIDTH, min(MAX_BAR_WIDTH, ALL_BARS_WIDTH // num_layers))
    width, foot = NAME_WIDTH + bar_width * num_layers, ROW_HEIGHT * len(histograms)
    with drawing_style("".join(histogram.name for histogram in histograms)):
        figure = Figure(figsize=((width + MARGIN) / 72, (foot + FOOT_HEIGHT) / 72), facecolor=palette.paper)
        axes = full_axes(figure)
        for row, histogram in enumerate(histograms, start=1):
            _draw_histogram(axes, histogram, ROW_HEIGHT * row, bar_width, palette)
        below = {"ha": "center", "color": palette.muted}
        for layer in range(1, num_layers + 1):
            axes.text(NAME_WIDTH + bar_width * (layer - 0.5), foot + 15, layer, **below)
        axes.text((NAME_WIDTH + width) / 2, foot + 33, "layer", **below)
    return figure


def _draw_histogram(axes: Any, histogram: Histogram, floor: float, bar_width: float, palette: Palette) -> None:
    from matplotlib.patches import Rectangle

    axes.text(MARGIN, floor - 18, histogram.name, color=palette.ink, fontsize=11)
    axes.text(MARGIN, floor - 4, histogram.note, color=palette.muted)
    axes.plot([NAME_WIDTH, NAME_WIDTH + bar_width * len(histogram.counts)], [floor, floor], color=palette.grid)
    for number, rows in enumerate(histogram.counts):
        if not rows:
            continue
        share = rows / sum(histogram.counts)
        x, height = NAME_WIDTH + bar_width * number, (ROW_HEIGHT - 20) * share
        bar = Rectangle((x + 4, floor - height), bar_width - 8, height, color=palette.series[histogram.colour])
        bar.set_gid(f"{TOOLTIP}{histogram.name}, {number + 1}: {rows:,} rows ({share:.1%})")
        axes.add_patch(bar)
        axes.text(x + bar_width / 2, floor - height - 3, short_share(share), ha="center", color=palette.muted)


def short_share(part: float) -> str:
    """Return a percentage short enough to stand above a bar."""
    return "<1%" if part < 0.01 else f"{part:.0%}"
