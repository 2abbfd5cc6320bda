"""Speeds become curves and models points; what is not known is left out."""

from typing import Any

import pytest

from kd_dist.evaluation.comparison import Comparison, group_rows
from kd_dist.evaluation.pictures.by_speed import exit_histograms, speed_tradeoffs

ROWS: list[dict[str, Any]] = [
    {"model": "teacher", "accuracy": 0.9, "operations_per_sample": 600, "samples_per_second": 100.0},
    {"model": "fast", "accuracy": 0.9, "operations_per_sample": 400, "samples_per_second": 140.0, "mean_layers": 2.0},
]
for _speed, _accuracy, _operations in ((1.0, 0.6, 200), (0.0, 0.9, 600), (0.5, float("nan"), 300)):
    ROWS.append({"model": "fast", "speed": _speed, "accuracy": _accuracy, "operations_per_sample": _operations})
    ROWS[-1] |= {"samples_per_second": 100.0, "mean_layers": 3 - 2 * _speed}


def comparison(rows: list[dict[str, Any]]) -> Comparison:
    return Comparison(*group_rows(rows), ("accuracy", "macro_f1"))


def test_operations_saved_and_throughput_are_plotted() -> None:
    operations, throughput = speed_tradeoffs(comparison(ROWS))
    assert (operations.title, throughput.title) == ("Accuracy and operations saved", "Accuracy and throughput")
    (curve,) = operations.curves
    assert (curve.label, list(curve.x), list(curve.y)) == ("fast by speed", [1.0, 3.0], [0.9, 0.6])
    assert list(curve.names) == ["0", "1"]  # the speed without a score is left out
    assert [(point.label, point.x) for point in operations.points] == [("teacher", 1.0), ("fast, own thresholds", 1.5)]


def test_layers_are_plotted_where_nothing_was_measured() -> None:
    rows = [{name: value for name, value in row.items() if name != "operations_per_sample"} for row in ROWS]
    (layers,) = speed_tradeoffs(comparison(rows))
    assert layers.fewer_is_better
    assert [list(curve.x) for curve in layers.curves] == [[3.0, 1.0]]
    assert [point.label for point in layers.points] == ["fast, own thresholds"]


def test_seeds_become_a_mean_with_its_spread() -> None:
    seeds = [{**ROWS[1], "seed": seed, "accuracy": accuracy} for seed, accuracy in ((42, 0.8), (43, 0.9))]
    operations, _ = speed_tradeoffs(comparison([ROWS[0], *seeds]))
    assert operations.points[1].y == pytest.approx(0.85)
    assert operations.points[1].spread == pytest.approx(0.0707, abs=1e-4)


def test_exits_are_counted_over_all_seeds() -> None:
    details = [
        {"model": "teacher"},
        {"model": "fast", "exit_layers": [1, 2, 3]},
        {"model": "fast", "seed": 43, "exit_layers": [3, 2, 1]},
        {"model": "fast", "speed": 0.5, "exit_layers": [6, 0, 0]},
    ]
    own, half = exit_histograms(comparison(ROWS), details)
    assert (own.name, own.note, own.counts) == ("own thresholds", "2.00 layers on average", [4, 4, 4])
    assert (half.name, half.counts) == ("speed 0.5", [6, 0, 0])
    assert own.colour == comparison(ROWS).look("fast").colour


def test_histograms_of_several_models_have_their_names() -> None:
    details = [{"model": name, "exit_layers": [1, 2]} for name in ("fast", "student_alone")]
    names = [histogram.name for histogram in exit_histograms(comparison(ROWS), details)]
    assert names == ["fast · own thresholds", "student alone · own thresholds"]
