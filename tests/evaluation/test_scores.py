"""Scores are those of the field; bounds are what the statistics say; labels are matched by name."""

import math

import numpy as np
import pytest

from kd_dist.config.tasks import METRICS, main_metric
from kd_dist.data.labels import align_labels, columns_by_name
from kd_dist.errors import RunError, UserError
from kd_dist.evaluation.guard import fisher_lower_bound, wilson_lower_bound
from kd_dist.evaluation.scores import confusion_matrix, per_class, probabilities, scores


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


def test_per_class_and_confusion() -> None:
    logits_BC, labels = one_hot([0, 1, 1, 2], 4), np.array([0, 1, 2, 2])
    rows = per_class("single_label", logits_BC, labels, ["a", "b", "c", "d"])
    assert rows[2] == {"label": "c", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert rows[3]["support"] == 0
    matrix = confusion_matrix(logits_BC, labels)
    assert matrix.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_bounds_are_those_of_the_tables() -> None:
    assert wilson_lower_bound(0.8, 100) == pytest.approx(0.7112, abs=1e-4)
    assert wilson_lower_bound(1.0, 10) == pytest.approx(0.7225, abs=1e-4)
    assert fisher_lower_bound(0.5, 50) == pytest.approx(0.2575, abs=1e-4)
    assert fisher_lower_bound(1.0, 3) == -1.0


def test_permuted_labels_are_found_by_name() -> None:
    model, data = {"sport": 0, "finance": 1, "travel": 2}, {"travel": 0, "sport": 1, "finance": 2}
    columns = align_labels(model, data)
    assert columns == [2, 0, 1]
    logits_BC = one_hot([model["travel"], model["sport"]], 3)
    assert logits_BC[:, columns].argmax(axis=1).tolist() == [data["travel"], data["sport"]]


def test_labels_are_those_of_the_columns() -> None:
    assert columns_by_name({0: "sport", 1: "2024"}) == {"sport": 0, "2024": 1}


def test_numbered_labels_are_taken_in_order_and_that_is_said(capsys: pytest.CaptureFixture) -> None:
    assert align_labels({"LABEL_0": 0, "LABEL_1": 1}, {"yes": 1, "no": 0}) == [0, 1]
    assert "'no', 'yes'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ({"sport": 0, "money": 1}, {"sport": 0, "monye": 1}, "does not know 'monye'; the data does not have 'money'"),
        ({"a": 0, "b": 1, "c": 2}, {"a": 0, "b": 1}, "the model has 3 labels, the data 2; the data does not have 'c'"),
        ({"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}, {"a": 0, "b": 1}, "the model has 3 labels, the data 2"),
    ],
)
def test_other_labels_are_refused_by_name(model, data, message) -> None:
    with pytest.raises(UserError, match=message):
        align_labels(model, data)
