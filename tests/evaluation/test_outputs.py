"""An evaluation draws what it has measured."""

import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from kd_dist.config.tasks import METRICS
from kd_dist.data.examples import Examples
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.evaluation.guard import judge
from kd_dist.evaluation.model_key import ModelKey
from kd_dist.evaluation.outputs import plot_speeds, write_evaluation
from kd_dist.evaluation.scoring import score_all
from kd_dist.models.classifier import load_classifier
from tests.conftest import TinyWorld
from tests.models.random_models import save_classifier


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


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_ten_thousand_labels_take_seconds_and_megabytes(task: Any, tiny: TinyWorld, tmp_path: Path) -> None:
    names = [f"类目{number:05}" for number in range(10_000)]
    label2id = {name: number for number, name in enumerate(names)}
    settings: dict[str, Any] = {"id2label": dict(enumerate(names)), "label2id": label2id}
    settings["problem_type"] = f"{task}_classification"
    classifier = load_classifier(str(save_classifier(tmp_path / "model", tiny.tokenizer, **settings)))
    labels = np.arange(600) * 16
    given = labels if task == "single_label" else np.eye(10_000, dtype=np.float32)[labels]
    examples = Examples("test", task, label2id, [f"第{number}条" for number in range(600)], None, given)
    key = ModelKey("student")
    started = time.monotonic()
    tracemalloc.start()
    scored = score_all({key: classifier}, {key: Preprocessing(16)}, examples, speed=False)
    guard = judge(scored[key], examples)
    write_evaluation(tmp_path, examples, scored, guard)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    assert time.monotonic() - started < 60
    assert (tmp_path / "evaluation.json").stat().st_size < 3e6
    assert (tmp_path / "predictions_student.parquet").exists()
    if task == "single_label":
        height, width, _ = imread(tmp_path / "confusion_student.png").shape
        assert max(height, width) < 4000
