"""Drawings as SVG in the colours of the page."""

import html
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

from kd_dist.evaluation.pictures.drawing import FONT_SIZE, TOOLTIP, Palette, style_axes
from kd_dist.reporting.page import Html, el

# matplotlib draws with these stand-ins, which become the page's colours, light or dark.
PAGE = Palette(
    series=tuple(f"#0a0b{number:02x}" for number in range(1, 9)),
    ink="#0a0c04",
    muted="#0a0c01",
    grid="#0a0c02",
    paper="#0a0c03",
    wrong="#0a0c05",
    has_all_fonts=True,
)

SERIES = PAGE.series

PAGE_COLOURS = {colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, start=1)} | {
    PAGE.ink: "var(--ink)",
    PAGE.muted: "var(--muted)",
    PAGE.grid: "var(--line)",
    PAGE.paper: "var(--card)",
    PAGE.wrong: "var(--open)",
}


def draw_svg(title: str, size: tuple[int, int], draw: Callable[[Any], None], has_x_label: bool = False) -> Html:
    """Return a plot as SVG.

    Args:
        title: what a screen reader says.
        size: width and height in points.
        draw: draws into matplotlib axes, in the colours of `PAGE`.
        has_x_label: leave room for the name of the x axis.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False, "font.size": FONT_SIZE, "path.simplify_threshold": 0.6}):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        left, below = 42 / size[0], (40 if has_x_label else 24) / size[1]
        axes = figure.add_axes((left, below, 1 - left - 7 / size[0], 1 - below - 8 / size[1]), facecolor="none")
        draw(axes)
        style_axes(axes, PAGE)
        return figure_svg(title, figure)


def figure_svg(title: str, figure: Any, style: str = "") -> Html:
    """Return a matplotlib figure that was drawn in the colours of `PAGE` as SVG, without its background."""
    from matplotlib import rc_context

    figure.set_facecolor("none")
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # browsers have their own fonts
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _for_the_page(buffer.getvalue(), title, style)


def _for_the_page(svg: str, title: str, style: str) -> Html:
    """Remove prolog, style sheet and the ids that every figure repeats, add tooltips, and set the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(rf"""<g id=(["']){TOOLTIP}(.*?)\1>""", r"<g><title>\2</title>", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), svg)  # a tenth of a point is enough
    svg = re.sub("|".join(PAGE_COLOURS), lambda match: PAGE_COLOURS[match[0]], svg)
    attributes = f'role="img" aria-label="{html.escape(title)}"' + (f' style="{html.escape(style)}"' if style else "")
    return Html(svg.replace("<svg ", f"<svg {attributes} ", 1))


def swatch(shape: str, colour: int) -> Html:
    """Return a mark of a legend in a colour of the series."""
    return el("i", class_=shape, style=f"background:var(--series-{colour + 1})")
