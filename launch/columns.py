"""Aligned columns of text that are never cut: one column may wrap, so that keys and paths can be copied."""

import shutil
import sys
import textwrap
from collections.abc import Sequence

GAP = "  "


def terminal_width() -> int | None:
    """Return the columns of the terminal; None where stdout is a file or a pipe, whose lines are not wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def columns(rows: Sequence[Sequence[str]], width: int | None = None, wrapped: int = -1) -> list[list[str]]:
    """Align the cells of rows, which may be shorter than others.

    Args:
        rows: The cells of each row; the first row may hold headings.
        width: Columns of the terminal; None wraps nothing.
        wrapped: The index of the column whose cells go on in a next line where a row is wider than that.

    Returns:
        The lines of each row.
    """
    widths = [max(len(row[index]) for row in rows if index < len(row)) for index in range(max(map(len, rows)))]
    wrapped %= len(widths)
    if width is not None:
        room = width - sum(widths) - len(GAP) * (len(widths) - 1) + widths[wrapped]
        longest_word = max(
            len(word) for row in rows for cell in row[wrapped : wrapped + 1] for word in cell.split() or [""]
        )
        widths[wrapped] = min(widths[wrapped], max(room, min(longest_word, widths[wrapped]), 1))
    return [_lines(row, widths, wrapped) for row in rows]


def _lines(row: Sequence[str], widths: list[int], wrapped: int) -> list[str]:
    """Return a row as one line, and a further one for each piece that the wrapped column does not have room for."""
    cells = list(row) + [""] * (len(widths) - len(row))
    pieces = wrap(cells[wrapped], widths[wrapped]) or [""]
    first = _line([*cells[:wrapped], pieces[0], *cells[wrapped + 1 :]], widths)
    rest = [_line([*[""] * wrapped, piece], widths) for piece in pieces[1:]]
    return [first, *rest]


def _line(cells: list[str], widths: list[int]) -> str:
    return GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)).rstrip()


def wrap(text: str, width: int | None, indent: str = "") -> list[str]:
    """Break text between words into lines of at most that width; a longer word, such as a key or path, stays whole."""
    if width is None:
        return [indent + text]
    return textwrap.wrap(
        text,
        max(width, len(indent) + 1),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
