"""Fonts and numbers of drawings."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from kd_dist.evaluation.pictures.drawing import drawing_style, font_for, format_tick, letters_wide


def test_fonts_are_chosen_by_what_they_can_write() -> None:
    assert font_for("abc é") == "DejaVu Sans"
    assert font_for("\U0010fffd") is None


def test_chinese_letters_are_twice_as_wide() -> None:
    assert letters_wide("ab") == 2
    assert letters_wide("中a") == 3


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (0.00002, "2e-5"), (3e10, "3e10"), (0.123456789, "0.123457"), (100, "100")]
)
def test_ticks_are_short(value: float, text: str) -> None:
    assert format_tick(value) == text


def test_formulas_are_text(tmp_path: Path) -> None:
    with drawing_style("$x$"):
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, r"$\y$")
    figure.savefig(tmp_path / "plot.png")
    assert imread(tmp_path / "plot.png").size
