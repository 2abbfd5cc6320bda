"""Confusion matrices of few and of many classes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from kd_dist.evaluation.confusion import Confusion
from kd_dist.evaluation.pictures.confusion import MAX_DRAWN_CLASSES, confusion_figure, shortened
from kd_dist.evaluation.pictures.drawing import LIGHT, TOOLTIP


def texts_of(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def banded(num_classes: int) -> Confusion:
    """Class i has 100 i right rows, and one that is taken for the next class."""
    matrix = np.diag(np.arange(num_classes) * 100) + np.eye(num_classes, k=1, dtype=int)
    return Confusion(np.arange(num_classes), matrix, matrix.sum(axis=1))


@pytest.mark.parametrize("num_classes", [2, 65])
def test_confusion_of_few_and_many_classes(num_classes: int, tmp_path: Path) -> None:
    figure = confusion_figure(banded(num_classes), [f"类别{number}" for number in range(num_classes)], LIGHT, "学生")
    figure.savefig(tmp_path / "plot.png", dpi=144)
    height, width, _ = imread(tmp_path / "plot.png").shape
    assert min(height, width) > 25 * min(num_classes, MAX_DRAWN_CLASSES)


def test_names_of_classes_that_look_like_formulas(tmp_path: Path) -> None:
    figure = confusion_figure(banded(2), [r"$\x$", "$x^2$"], LIGHT, r"$\y$")
    figure.savefig(tmp_path / "plot.png")
    assert {r"$\x$", "$x^2$", r"$\y$"} <= set(texts_of(figure))


def test_of_many_classes_the_most_confused_are_drawn_and_that_is_said() -> None:
    labels = np.repeat(np.arange(5000), 2)
    predicted = labels.copy()
    predicted[labels < 60] += 1  # of these, 0 and 60 have half as many wrong rows as the others
    confusion = Confusion.of(predicted, labels, 5000)
    figure = confusion_figure(confusion, [f"class {number}" for number in range(5000)], LIGHT)
    texts = texts_of(figure)
    assert "predicted (the 50 of 5,000 labels that are confused most)" in texts
    assert "class 1" in texts
    assert "class 4999" not in texts
    assert max(figure.get_size_inches()) < 20


def test_classes_that_no_font_can_write_go_by_number() -> None:
    names = ["a", "\U0010fffd"]
    assert {"0", "1", "predicted (by number: `labels` in evaluation.json)"} <= set(
        texts_of(confusion_figure(banded(2), names, LIGHT))
    )
    assert "\U0010fffd" in texts_of(confusion_figure(banded(2), names, replace(LIGHT, has_all_fonts=True)))


def test_a_cell_is_coloured_by_its_share_of_the_true_class() -> None:
    matrix = np.array([[3, 1], [0, 4]])
    figure = confusion_figure(Confusion(np.arange(2), matrix, matrix.sum(axis=1)), ["a", "b"], LIGHT)
    cells = figure.axes[0].patches
    assert [cell.get_alpha() for cell in cells] == pytest.approx([0.06 + 0.94 * share for share in (0.75, 0.25, 1.0)])
    assert [to_hex(cell.get_facecolor()) for cell in cells] == [LIGHT.series[0], LIGHT.wrong, LIGHT.series[0]]
    assert cells[1].get_gid() == f"{TOOLTIP}a → b: 1 (25.0%)"


def test_long_names_are_shortened() -> None:
    assert shortened("a" * 18) == "a" * 18
    assert shortened("a" * 19) == "a" * 17 + "…"
    assert shortened("中" * 12) == "中" * 8 + "…"
