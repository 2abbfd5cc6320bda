"""An evaluation draws what it has measured."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from kd_dist.config.tasks import METRICS
from kd_dist.evaluation.outputs import plot_speeds


def at_speed(accuracy: float, layers: float, **more: Any) -> dict[str, Any]:
    return {"model": "fast", "accuracy": accuracy, "mean_layers": layers, "exit_layers": [30, 20, 50], **more}


def measured(operations: int, samples_per_second: float) -> dict[str, Any]:
    return {"operations_per_sample": operations, "samples_per_second": samples_per_second}


@pytest.mark.parametrize("is_measured", [True, False])
def test_pictures_of_speeds(is_measured: bool, tmp_path: Path) -> None:
    models = [
        {"model": "teacher", "accuracy": 0.9, **measured(600, 100.0)},
        at_speed(0.9, 2.5, **measured(400, 140.0)),
        at_speed(0.9, 3.0, speed=0.0, **measured(600, 99.0)),
        at_speed(float("nan"), 3.0, speed=0.1),
        at_speed(0.5, 1.0, speed=1.0, **measured(200, 250.0)),
    ]
    if not is_measured:
        for model in models:
            model.pop("operations_per_sample", None)
    wide, tall = (imread(path).shape for path in plot_speeds(tmp_path, models, METRICS["single_label"]))
    assert (wide[1] > 2 * wide[0]) == is_measured  # throughput beside the operations
    assert tall[0] > 300
    assert {path.name for path in tmp_path.iterdir()} == {"speed_accuracy.png", "exit_layers.png"}


def test_without_speeds_there_are_no_pictures_of_them(tmp_path: Path) -> None:
    assert plot_speeds(tmp_path, [{"model": "teacher", "accuracy": 0.9}, at_speed(0.9, 2.5)], ("accuracy",)) == []
    assert not list(tmp_path.iterdir())


def test_models_without_a_score_have_no_curve_but_exits(tmp_path: Path) -> None:
    paths = plot_speeds(tmp_path, [at_speed(float("nan"), 3.0), at_speed(float("nan"), 2.0, speed=0.5)], ("accuracy",))
    assert [path.name for path in paths] == ["exit_layers.png"]
