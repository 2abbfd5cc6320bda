"""Scores are those of the field."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from kd_dist.config.tasks import METRICS, main_metric
from kd_dist.errors import RunError
from kd_dist.evaluation import scores as module
from kd_dist.evaluation.scores import Predicted, per_class, predictions, probabilities
from tests.evaluation.whole_scores import scores


def one_hot(classes: list[int], num_classes: int) -> np.ndarray:
    """Logits that predict these classes."""
    return np.eye(num_classes, dtype=np.float32)[classes] * 3


def test_single_label() -> None:
    found = scores("single_label", one_hot([0, 1, 1, 2], 3), np.array([0, 1, 2, 2]))
    # F1 by hand: 1, 2 * (1/2 * 1) / (3/2) = 2/3, 2 * (1 * 1/2) / (3/2) = 2/3.
    assert found == pytest.approx({"accuracy": 0.75, "macro_f1": (1 + 2 / 3 + 2 / 3) / 3})


def test_a_class_that_nowhere_occurs_does_not_lower_the_macro_f1() -> None:
    assert scores("single_label", one_hot([0, 1], 5), np.array([0, 1]))["macro_f1"] == 1.0


def test_multi_label() -> None:
    logits_BC = np.array([[2.0, -1.0], [1.0, 3.0], [-1.0, -2.0]])
    labels = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    # True positives 2, false positives 1, false negatives 1; class F1 1 and 0.
    found = scores("multi_label", logits_BC, labels)
    assert found == pytest.approx({"micro_f1": 2 / 3, "macro_f1": 0.5, "accuracy": 1 / 3})


def test_regression() -> None:
    found = scores("regression", np.array([[1.0], [2.0], [4.0]]), np.array([2.0, 4.0, 8.0]))
    assert found == pytest.approx({"spearman": 1.0, "pearson": 1.0, "mean_squared_error": (1 + 4 + 16) / 3})


@pytest.mark.parametrize("predicted", [[[1.0], [1.0]], [[1.0]]])
def test_a_correlation_with_a_constant_is_zero(predicted: list[list[float]]) -> None:
    labels = np.arange(len(predicted), dtype=np.float32)
    assert scores("regression", np.array(predicted), labels)["spearman"] == 0.0


@pytest.mark.parametrize(
    ("task", "logits_BC", "labels", "message"),
    [
        (
            "single_label",
            np.array([[0.0, math.nan], [1.0, 0.0]]),
            np.array([0, 1]),
            "1 of 2 predictions are not finite",
        ),
        ("single_label", np.empty((0, 2)), np.empty(0, np.int64), "no rows"),
        ("single_label", one_hot([0], 2), np.array([2]), "labels run from 2 to 2"),
        ("multi_label", one_hot([0], 2), np.array([0]), "do not fit logits"),
        ("regression", one_hot([0], 2), np.array([0.5]), "one output"),
    ],
)
def test_what_cannot_be_scored(task, logits_BC, labels, message) -> None:
    with pytest.raises(RunError, match=message):
        scores(task, logits_BC, labels)


def test_every_task_has_its_metrics_the_main_one_first() -> None:
    assert tuple(scores("single_label", one_hot([0], 2), np.array([0]))) == METRICS["single_label"]
    assert tuple(scores("multi_label", one_hot([0], 2), np.array([[1, 0]]))) == METRICS["multi_label"]
    assert tuple(scores("regression", np.array([[1.0]]), np.array([1.0]))) == METRICS["regression"]
    assert main_metric("multi_label") == "micro_f1"


def test_probabilities() -> None:
    single = probabilities("single_label", np.array([[1000.0, 1000.0], [0.0, math.log(3)]]))
    assert single == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))
    many = probabilities("multi_label", np.array([[0.0, -1e4], [math.log(3), 1e4]], dtype=np.float32))
    assert many == pytest.approx(np.array([[0.5, 0.0], [0.75, 1.0]]))


def test_per_class() -> None:
    predicted, labels = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
    rows = per_class("single_label", predicted, labels, ["a", "b", "c", "d"])
    assert rows[2] == {"label": "c", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert rows[3]["support"] == 0
    assert per_class("regression", predicted, labels, []) == []


def test_predictions() -> None:
    logits_BC = np.array([[0.5, 2.0], [-1.0, -2.0]])
    assert predictions("single_label", logits_BC).tolist() == [1, 0]
    assert predictions("multi_label", logits_BC).tolist() == [[1, 1], [0, 0]]
    assert predictions("regression", logits_BC[:, :1]).tolist() == [0.5, -1.0]


@pytest.mark.parametrize("rows_at_once", [1, 2, 128])
def test_what_is_predicted_has_probabilities(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows_at_once)
    logits_BC = np.array([[0.0, math.log(3)], [math.log(4), 0.0], [-1.0, -1.0]])
    found = Predicted.of("single_label", logits_BC)
    assert (found.values.tolist(), found.probabilities) == ([1, 0, 0], pytest.approx([0.75, 0.8, 0.5]))
    found = Predicted.of("multi_label", logits_BC)
    assert found.values.tolist() == [[0, 1], [1, 0], [0, 0]]
    assert [list(map(float, one)) for one in found.probabilities] == [[pytest.approx(0.75)], [pytest.approx(0.8)], []]
    found = Predicted.of("regression", logits_BC[:, :1])
    assert (found.values.tolist(), found.probabilities) == (logits_BC[:, 0].tolist(), [])


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_thousands_of_classes_take_no_more_memory_than_their_logits(task: Any) -> None:
    logits_BC = np.random.default_rng(0).normal(-9, 1, (1000, 10_000)).astype(np.float32)
    labels = np.arange(1000)
    given = np.eye(1000, 10_000, dtype=np.float32) if task == "multi_label" else labels
    logits_BC[labels[::2], labels[::2]] = 20
    scores(task, logits_BC[:9], given[:9])  # imports scikit-learn
    tracemalloc.start()
    found = scores(task, logits_BC, given)
    rows = per_class(task, Predicted.of(task, logits_BC).values, given, list(map(str, range(10_000))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(row["recall"] for row in rows) == 500
    assert found["accuracy"] == pytest.approx(0.5, abs=0.01)
    assert peak < 2 * logits_BC.nbytes
