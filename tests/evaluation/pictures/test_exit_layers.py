"""A histogram shows at which layers rows exit."""

from typing import Any

import pytest

from kd_dist.evaluation.pictures.drawing import LIGHT, TOOLTIP
from kd_dist.evaluation.pictures.exit_layers import Histogram, exit_layers_figure, short_share

HISTOGRAMS = [
    Histogram("speed 0", "3.00 layers on average", [0, 0, 200], colour=2),
    Histogram("学生", "1.00 layers on average", [50, 100, 50]),
]


def bars_of(figure: Any) -> list[Any]:
    return figure.axes[0].patches


def test_bars_are_as_high_as_the_share_of_the_rows() -> None:
    heights = [bar.get_height() for bar in bars_of(exit_layers_figure(HISTOGRAMS, LIGHT))]
    assert [height / heights[0] for height in heights] == pytest.approx([1, 0.25, 0.5, 0.25])


def test_bars_say_what_they_are() -> None:
    last = bars_of(exit_layers_figure(HISTOGRAMS, LIGHT))[-1]
    assert last.get_gid() == f"{TOOLTIP}学生, 3: 50 rows (25.0%)"


def test_names_notes_shares_and_layers_are_written() -> None:
    texts = [text.get_text() for text in exit_layers_figure(HISTOGRAMS, LIGHT).axes[0].texts]
    assert texts[:3] == ["speed 0", "3.00 layers on average", "100%"]
    assert texts[-4:] == ["1", "2", "3", "layer"]


def test_more_layers_make_a_wider_drawing() -> None:
    narrow, wide = (exit_layers_figure([Histogram("", "", [1] * layers)], LIGHT) for layers in (3, 24))
    assert narrow.get_figwidth() < wide.get_figwidth() < 15


@pytest.mark.parametrize(("share", "text"), [(0.004, "<1%"), (0.01, "1%"), (0.499, "50%"), (1.0, "100%")])
def test_shares_are_short(share: float, text: str) -> None:
    assert short_share(share) == text
