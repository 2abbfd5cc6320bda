"""Confusion matrices. Sizes are in points."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_dist.evaluation.confusion import Confusion
from kd_dist.evaluation.pictures.drawing import TOOLTIP, Palette, drawing_style, font_for, full_axes, letters_wide

MAX_DRAWN_CLASSES = 50

NAME_LETTERS = 18  # of a class name that are shown
LETTER_SIZE, LETTER_WIDTH = 10.0, 6.0
CELLS_WIDTH, MIN_CELL, MAX_CELL = 900, 18, 32
LABEL_ROOM = 20  # for the name of an axis, and for a title


def confusion_figure(confusion: Confusion, names_C: Sequence[str], palette: Palette, title: str = "") -> Any:
    """Draw a matrix; the colour of a cell is its share of the true class.

    Of more than `MAX_DRAWN_CLASSES` classes those that are confused most are drawn. Where no installed font can write
    the names, and whoever shows the drawing has none of its own, classes go by their numbers in `label2id`.

    Args:
        confusion: what was predicted.
        names_C: of all classes.
        palette: the colours.
        title: written above the matrix.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    shown = confusion.most_confused(MAX_DRAWN_CLASSES)
    names_K = [names_C[number] for number in shown.classes_K]
    by_name = palette.has_all_fonts or font_for("".join([title, *names_K])) is not None
    texts_K = [shortened(name) for name in names_K] if by_name else [str(number) for number in shown.classes_K]
    title = title if by_name else ""
    column_label = _column_label(len(names_C), len(texts_K), by_name)
    cell = max(MIN_CELL, min(MAX_CELL, CELLS_WIDTH // len(texts_K)))
    room = LABEL_ROOM + 12 + round(max(map(letters_wide, texts_K)) * LETTER_WIDTH)
    top, side = room + (LABEL_ROOM if title else 0), cell * len(texts_K)
    width = room + max(side + 4, *(round(letters_wide(text) * LETTER_WIDTH * 1.3) for text in (title, column_label)))
    with drawing_style("".join([title, *texts_K])):
        figure = Figure(figsize=(width / 72, (top + side + 4) / 72), facecolor=palette.paper)
        axes = full_axes(figure)
        axes.text(room, 14, title, color=palette.ink, fontsize=LETTER_SIZE + 2)
        axes.text(room, 14 + top - room, column_label, color=palette.muted)
        axes.text(14, top + side / 2, "label", color=palette.muted, rotation=90, va="center", ha="center")
        _write_names(axes, texts_K, (room, top), cell, palette)
        for true, given in np.argwhere(shown.matrix_KK):
            _draw_cell(axes, shown, texts_K, (int(true), int(given)), (room, top), cell, palette)
    return figure


def _column_label(num_classes: int, num_shown: int, by_name: bool) -> str:
    left_out = f" (the {num_shown} of {num_classes:,} labels that are confused most)" if num_shown < num_classes else ""
    return f"predicted{left_out}{'' if by_name else ' (by number: `labels` in evaluation.json)'}"


def _write_names(axes: Any, names: Sequence[str], corner: tuple[float, float], cell: float, palette: Palette) -> None:
    """Write the name of each class before its row and, upright, above its column."""
    left, top = corner
    for index, name in enumerate(names):
        middle = (index + 0.5) * cell
        text = {"color": palette.ink, "fontsize": LETTER_SIZE}
        axes.text(left - 6, top + middle, name, ha="right", va="center", **text)
        axes.text(left + middle, top - 6, name, ha="center", va="bottom", rotation=90, **text)


def _draw_cell(
    axes: Any,
    confusion: Confusion,
    names: Sequence[str],
    place: tuple[int, int],
    corner: tuple[float, float],
    cell: float,
    palette: Palette,
) -> None:
    from matplotlib.patches import Rectangle

    (true, given), (left, top) = place, corner
    rows = int(confusion.matrix_KK[place])
    share = rows / confusion.support_K[true]
    x, y = left + given * cell, top + true * cell
    colour = palette.series[0] if true == given else palette.wrong
    square = Rectangle((x, y), cell - 1, cell - 1, facecolor=colour, alpha=0.06 + 0.94 * share, clip_on=False)
    square.set_gid(f"{TOOLTIP}{names[true]} → {names[given]}: {rows:,} ({share:.1%})")
    axes.add_patch(square)
    text = {"color": palette.paper if share > 0.5 else palette.ink, "fontsize": min(10.0, 1.5 * cell / len(f"{rows}"))}
    axes.text(x + (cell - 1) / 2, y + (cell - 1) / 2, f"{rows}", ha="center", va="center_baseline", **text)


def shortened(name: str) -> str:
    """Cut a name to `NAME_LETTERS` letters, with an ellipsis."""
    if letters_wide(name) <= NAME_LETTERS:
        return name
    while letters_wide(name) >= NAME_LETTERS:
        name = name[:-1]
    return f"{name}…"
