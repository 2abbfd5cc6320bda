"""Models are points with their names beside them, clear of one another."""

import numpy as np

from kd_dist.evaluation.pictures.tradeoff import Point
from kd_dist.reporting.scatter import NAME_HEIGHT, _shifts, scatter


def test_names_of_points_of_one_height_are_moved_apart() -> None:
    heights = np.array([50.0, 50.0, 50.0, 200.0])
    placed = heights + _shifts(heights, [True, True, True, True])
    assert np.diff(np.sort(placed)).min() >= NAME_HEIGHT - 1e-9
    assert abs(placed[:3].mean() - 50) < 1e-9


def test_names_on_different_sides_stay_where_they_are() -> None:
    assert _shifts(np.array([50.0, 50.0]), [True, False]).tolist() == [0.0, 0.0]


def test_every_point_has_its_name() -> None:
    shown = scatter(
        "Accuracy and size", [Point("学生 <a>", 1e6, 0.9), Point("teacher", 1e8, 0.95, spread=0.01)], "parameters"
    )
    assert "学生 &lt;a&gt;" in shown
    assert ">teacher<" in shown


def test_nothing_measured_is_said() -> None:
    assert "not measured" in scatter("Accuracy and size", [], "parameters")
