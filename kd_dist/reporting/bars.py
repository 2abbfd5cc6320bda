"""Histograms row by row."""

from collections.abc import Sequence
from typing import Any

from kd_dist.evaluation.pictures import rough_share
from kd_dist.reporting.page import Html, el, share

ALL_BARS_WIDTH, BARS_HEIGHT, BARS_NAME = 750, 64, 164


def bars(title: str, unit: str, rows: Sequence[tuple[str, str, Sequence[int]]], columns: str, colour: int = 0) -> Html:
    """A histogram for each row, one below the other: its name, a word below that, and counts."""
    num_columns = max(len(counts) for *_, counts in rows)
    bar_width = max(34, min(62, ALL_BARS_WIDTH // num_columns))
    width, foot = BARS_NAME + bar_width * num_columns, BARS_HEIGHT * len(rows)
    drawn = [_row_of_bars(BARS_HEIGHT * (index + 1), bar_width, *row) for index, row in enumerate(rows)]
    drawn += [_word(number + 1, BARS_NAME + bar_width * (number + 0.5), foot + 17) for number in range(num_columns)]
    drawn.append(_word(columns, (BARS_NAME + width) / 2, foot + 36))
    svg = el(
        "svg", *drawn, viewBox=f"0 0 {width} {foot + 40}", role="img", aria_label=title,
        style=f"--c:var(--series-{colour + 1});min-width:{min(width, 720)}px;max-width:{width * 1.2:.0f}px",
    )  # fmt: skip
    caption = el("figcaption", el("b", title), el("span", unit, class_="unit"))
    return el("figure", caption, el("div", svg, class_="histograms", tabindex=0))


def _row_of_bars(floor: int, bar_width: int, name: str, below: str, counts: Sequence[int]) -> Html:
    drawn = [
        el("text", name, x=0, y=floor - 18, class_="name"),
        el("text", below, x=0, y=floor - 3, class_="below"),
        el("path", d=f"M{BARS_NAME},{floor} h{bar_width * len(counts)}", class_="floor"),
    ]
    for number, rows in enumerate(counts):
        if not rows:
            continue
        part = rows / sum(counts)
        x, height = BARS_NAME + bar_width * number, (BARS_HEIGHT - 20) * part
        told = el("title", f"{name}, {number + 1}: {rows:,} rows ({share(part)})")
        drawn.append(el("rect", told, x=x + 4, y=f"{floor - height:.1f}", width=bar_width - 8, height=f"{height:.1f}"))
        drawn.append(_word(rough_share(part), x + bar_width / 2, floor - height - 4))
    return el("g", *drawn)


def _word(text: Any, x: float, y: float) -> Html:
    return el("text", text, x=f"{x:g}", y=f"{y:.1f}", text_anchor="middle", class_="below")
