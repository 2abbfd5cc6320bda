"""Shared parts of all drawings: colours, fonts and axes. Sizes are in points."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

FONT_SIZE = 9.5

TOOLTIP = "tooltip:"
"""How the group id of an artist begins whose rest a page shows as a tooltip."""


@dataclass(frozen=True)
class Palette:
    """The colours of a drawing.

    Args:
        series: of models and curves, by their number.
        ink, muted, grid, paper: of names, axes and labels, lines, and what is behind.
        wrong: of predictions that are not right; right ones have the first colour of the series.
        has_all_fonts: whether names are written by whoever shows the drawing (a browser), in fonts that are not here.
    """

    series: tuple[str, ...]
    ink: str
    muted: str
    grid: str
    paper: str
    wrong: str
    has_all_fonts: bool = False


LIGHT = Palette(
    series=("#2563eb", "#d9730d", "#0d9668", "#9333ea", "#dc2650", "#0891b2", "#7c6f0a", "#64748b"),
    ink="#16191d",
    muted="#606a76",
    grid="#e2e5ea",
    paper="#ffffff",
    wrong="#b45309",
)


@contextmanager
def drawing_style(text: str) -> Iterator[None]:
    """Draw in a font that has all characters of `text`, if one is installed; `$` is a character like any other."""
    from matplotlib import rc_context

    font = font_for(text)
    with rc_context({"text.parse_math": False, "font.size": FONT_SIZE} | ({"font.family": font} if font else {})):
        yield


def font_for(text: str) -> str | None:
    """Return an installed font that has every character of the text, matplotlib's own first; None if there is none."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    needed = {ord(character) for character in text if not character.isspace()}
    fonts = sorted(fontManager.ttflist, key=lambda font: font.name != "DejaVu Sans")
    # `Last Resort` has a box for every character.
    candidates = (font for font in fonts if not font.name.startswith("Last Resort"))
    return next((font.name for font in candidates if needed <= set(FT2Font(font.fname).get_charmap())), None)


def letters_wide(text: str) -> int:
    """Return the width of a text in Latin letters; Chinese ones count twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def style_axes(axes: Any, palette: Palette) -> None:
    """Leave horizontal grid lines and a floor of the frame of a plot."""
    axes.tick_params(colors=palette.muted, length=0, pad=4)
    axes.grid(axis="y", color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(palette.grid)


def full_axes(figure: Any) -> Any:
    """Return axes over a whole figure, without a frame, whose unit is a point; y counts from the top."""
    width, height = (72 * size for size in figure.get_size_inches())
    axes = figure.add_axes((0, 0, 1, 1), facecolor="none")
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def format_tick(value: float, _position: int | None = None) -> str:
    """Return up to six digits, with a short exponent."""
    return f"{value:.6g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
