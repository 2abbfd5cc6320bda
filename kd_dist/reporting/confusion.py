"""The confusion matrix."""

import unicodedata
from collections.abc import Iterator, Sequence

from kd_dist.reporting.page import Html, el, join, share

NAME_WIDTH = 18  # letters of a class name that are shown; wide ones count twice


def confusion(title: str, matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Html:
    """Rows of each true class by the class they were given; the colour is the share of the true class."""
    names = [_cut(name) for name in names]
    size = max(9, min(32, 560 // len(names)))
    letter = min(12, size - 1)
    room = round(max(map(_width, names)) * letter * 0.58) + 10
    side = room + size * len(names)
    labels = [_names_of(index, name, room, size, letter) for index, name in enumerate(names)]
    cells = _cells(matrix, names, room, size)
    box = f"0 0 {side + 4} {side + 4}"
    svg = el("svg", *labels, *cells, viewBox=box, role="img", aria_label=title, style=f"max-width:{side * 1.1:.0f}px")
    return el("figure", svg, class_="confusion")


def _names_of(index: int, name: str, room: int, size: int, letter: int) -> Html:
    """The name of a class before its row and, upright, above its column."""
    middle, end = room + (index + 0.5) * size, room - 6
    beside = el("text", name, x=end, y=f"{middle:g}", text_anchor="end", dominant_baseline="central", font_size=letter)
    above = el(
        "text", name, transform=f"translate({middle:g},{end}) rotate(-90)", dominant_baseline="central",
        font_size=letter,
    )  # fmt: skip
    return join([beside, above])


def _cells(matrix: Sequence[Sequence[int]], names: Sequence[str], room: int, size: int) -> Iterator[Html]:
    numbers = size >= 18
    for true, row in enumerate(matrix):
        for given, rows in enumerate(row):
            part = rows / (sum(row) or 1)
            if not rows:
                continue
            x, y = room + given * size, room + true * size
            told = el("title", f"{names[true]} → {names[given]}: {rows:,} ({share(part)})")
            rect = el(
                "rect", told, x=x, y=y, width=size - 1, height=size - 1, rx=2, class_="right" if true == given else
                "wrong", fill_opacity=f"{0.06 + 0.94 * part:.2f}",
            )  # fmt: skip
            text = el(
                "text", f"{rows}", x=f"{x + size / 2 - 0.5:g}", y=f"{y + size / 2:g}", text_anchor="middle",
                dominant_baseline="central", font_size=10 if rows < 1000 else 8, class_="on" if part > 0.5 else "",
            )  # fmt: skip
            yield join([rect, text if numbers else ""])


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _cut(name: str) -> str:
    if _width(name) <= NAME_WIDTH:
        return name
    while _width(name) >= NAME_WIDTH:
        name = name[:-1]
    return f"{name}…"
