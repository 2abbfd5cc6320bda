"""Drawings as SVG in the colours of the page."""

import html
import io
import re
from collections.abc import Callable
from typing import Any

from kd_dist.reporting.page import Html, el

# matplotlib draws with these stand-ins, which become the page's colours, light or dark.
SERIES = [f"#0a0b{number:02x}" for number in range(1, 9)]

INK, GRID, PAPER = "#0a0c01", "#0a0c02", "#0a0c03"

PAGE_COLOURS = {colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, start=1)} | {
    INK: "var(--muted)",
    GRID: "var(--line)",
    PAPER: "var(--card)",
}


def draw_svg(title: str, size: tuple[int, int], draw: Callable[[Any], None], x_label: str = "") -> Html:
    """What `draw` draws into matplotlib axes of `size` points."""
    import matplotlib
    from matplotlib.figure import Figure

    style = {"svg.fonttype": "none", "svg.hashsalt": title, "text.parse_math": False, "font.size": 9.5}
    style |= {"path.simplify_threshold": 0.6}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), facecolor="none")
        left, below = 42 / size[0], (40 if x_label else 24) / size[1]
        axes = figure.add_axes((left, below, 1 - left - 7 / size[0], 1 - below - 8 / size[1]), facecolor="none")
        draw(axes)
        axes.set_xlabel(x_label, color=INK, labelpad=5)
        _dress(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _for_the_page(buffer.getvalue(), title)


def _dress(axes: Any) -> None:
    axes.tick_params(colors=INK, length=0, pad=4)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def _for_the_page(svg: str, title: str) -> Html:
    """Without prolog, style sheet and the ids that every figure repeats, and in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), svg)  # a tenth of a point is enough
    svg = re.sub("|".join(PAGE_COLOURS), lambda match: PAGE_COLOURS[match[0]], svg)
    return Html(svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1))


def format_tick(value: float, _position: int | None = None) -> str:
    return re.sub(r"e([-+])0?", lambda sign: "e-" if sign[1] == "-" else "e", f"{value:.6g}")


def swatch(shape: str, colour: int) -> Html:
    return el("i", class_=shape, style=f"background:var(--series-{colour + 1})")
