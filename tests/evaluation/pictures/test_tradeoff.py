"""Names of points stay apart."""

from dataclasses import replace
from typing import Any

import pytest
from matplotlib.figure import Figure

from kd_dist.evaluation.pictures.drawing import LIGHT
from kd_dist.evaluation.pictures.tradeoff import (
    Curve,
    Point,
    Tradeoff,
    close_points,
    draw_tradeoff,
    tradeoff_figure,
)

TRADEOFF = Tradeoff(
    "Accuracy and operations saved",
    [Curve("fast by speed", [1.0, 1.01, 2.0, 3.0], [0.9, 0.9, 0.85, 0.6], ["0", "0.1", "0.5", "1"], colour=2)],
    [Point("teacher", 1.0, 0.9, colour=1, marker="s"), Point("学生 $x$", 4.0, 0.8, spread=0.05, hollow=True)],
    "times fewer operations",
    ("least allowed", 0.82),
)


def drawn(plot: Tradeoff) -> Any:
    axes = Figure(figsize=(5, 3)).add_axes((0, 0, 1, 1))
    draw_tradeoff(axes, plot, LIGHT)
    return axes


def test_places_that_fall_together_share_a_name() -> None:
    places = [(0.1, 0.9), (0.11, 0.9), (0.12, 0.9), (0.15, 0.9), (0.9, 0.1)]
    assert close_points(places) == [range(3), range(3, 4), range(4, 5)]
    assert close_points([]) == []
    assert [text.get_text() for text in drawn(TRADEOFF).texts] == ["0\N{EN DASH}0.1", "0.5", "1"]


def test_everything_that_is_drawn_lies_within_the_limits() -> None:
    axes = drawn(TRADEOFF)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < 1.0 < 4.0 < right
    assert bottom < 0.6 < 0.9 < top


def test_fewer_layers_are_to_the_right() -> None:
    left, right = drawn(replace(TRADEOFF, fewer_is_better=True)).get_xlim()
    assert left > right


def test_scores_that_are_equal_are_not_blown_up_to_noise() -> None:
    flat = replace(TRADEOFF, curves=[], floor=None, points=[Point("a", 1.0, 0.5), Point("b", 2.0, 0.5)])
    bottom, top = drawn(flat).get_ylim()
    assert top - bottom == pytest.approx(0.002)


def test_colours_are_those_of_the_palette() -> None:
    line = next(line for line in drawn(TRADEOFF).lines if line.get_label() == "fast by speed")
    assert line.get_color() == LIGHT.series[2]


def test_panels_have_one_legend() -> None:
    figure = tradeoff_figure([TRADEOFF, TRADEOFF], "Accuracy", LIGHT)
    assert len(figure.axes) == 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["least allowed", "fast by speed", "teacher", "学生 $x$"]
