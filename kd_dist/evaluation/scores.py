"""Scores, predictions and probabilities from logits.

Everything here is NumPy: no torch. scikit-learn, slow to import, is imported by what needs it.
Shapes: B rows, C classes (1 for regression).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_dist.config.tasks import Task
from kd_dist.errors import RunError

ROWS_AT_ONCE = 128  # whose probabilities of perhaps thousands of classes are in memory


@dataclass(frozen=True)
class Predicted:
    """What a model predicts for B rows: of thousands of classes, far less than its logits.

    Attributes:
        values: what `predictions` returns.
        probabilities: of the class of each row, or lists of those of its labels; none for regression.
    """

    values: np.ndarray
    probabilities: list[Any]

    @classmethod
    def of(cls, task: Task, logits_BC: np.ndarray) -> "Predicted":
        """Predict from logits."""
        values, found = predictions(task, logits_BC), []
        for start in range(0, len(values) if task != "regression" else 0, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            for row_C, value in zip(probabilities(task, logits_BC[rows]), values[rows], strict=True):
                found.append(row_C[value > 0].tolist() if task == "multi_label" else float(row_C[value]))
        return cls(values, found)


def scores_of(task: Task, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score predictions.

    F1 is 0 where it is undefined; its macro mean is over the classes that occur in labels or predictions. A correlation
    is 0 where either side is constant.

    Args:
        task: what the labels are.
        predicted: what `predictions` returned.
        labels: (B) class numbers, (B, C) zeros and ones for several labels, or (B) numbers for regression; those that
            `check_fit` accepts.

    Returns:
        Scores by name, those of `METRICS[task]` in their order.
    """
    if task == "regression":
        return _regression_scores(predicted.astype(float), labels.reshape(-1).astype(float))
    from sklearn.metrics import f1_score

    def f1(average: str) -> float:
        return float(f1_score(labels, predicted, average=average, zero_division=0))

    if task == "single_label":
        return {"accuracy": float((predicted == labels).mean()), "macro_f1": f1("macro")}
    accuracy = float((predicted == labels).all(axis=1).mean())
    return {"micro_f1": f1("micro"), "macro_f1": f1("macro"), "accuracy": accuracy}


def check_fit(task: Task, logits_shape: tuple[int, ...], labels: np.ndarray) -> None:
    """Raise a RunError unless there are rows, and labels that fit logits of this shape, (B, C)."""
    num_rows, num_outputs = logits_shape
    if not num_rows:
        raise RunError("no rows to score")
    expected = logits_shape if task == "multi_label" else (num_rows,)
    if labels.shape != expected and not (task == "regression" and labels.size == num_rows):
        raise RunError(f"{task} labels of shape {labels.shape} do not fit logits of shape {logits_shape}")
    if task == "single_label" and (labels.min() < 0 or labels.max() >= num_outputs):
        raise RunError(
            f"labels run from {labels.min()} to {labels.max()}, but the model predicts {num_outputs} classes"
        )
    if task == "regression" and num_outputs != 1:
        raise RunError(f"regression wants a model of one output, but this one has {num_outputs}")


def num_not_finite(logits_BC: np.ndarray) -> int:
    """Return the number of rows with a logit that is not finite."""
    return int((~np.isfinite(logits_BC).all(axis=1)).sum())


def refuse_not_finite(number: int, num_rows: int) -> None:
    """Raise a RunError if the logits of a number of rows are not finite."""
    if number:
        raise RunError(
            f"{number:,} of {num_rows:,} predictions are not finite: the weights of the model, or the precision it "
            "runs in, are at fault; go back to a checkpoint whose loss was finite"
        )


def _regression_scores(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr  # type: ignore[import-untyped]

    constant = len(labels) < 2 or np.ptp(predicted) == 0 or np.ptp(labels) == 0
    return {
        "spearman": 0.0 if constant else float(spearmanr(predicted, labels).statistic),
        "pearson": 0.0 if constant else float(pearsonr(predicted, labels).statistic),
        "mean_squared_error": float(((predicted - labels) ** 2).mean()),
    }


def predictions(task: Task, logits_BC: np.ndarray) -> np.ndarray:
    """Return (B) class numbers, (B, C) zeros and ones (probability above one half), or (B) numbers."""
    if task == "single_label":
        return logits_BC.argmax(axis=1)
    return (logits_BC > 0).astype(np.int8) if task == "multi_label" else logits_BC[:, 0]


def probabilities(task: Task, logits_BC: np.ndarray) -> np.ndarray:
    """Return (B, C): the softmax over classes, the sigmoid of each class, or the prediction itself."""
    if task == "regression":
        return logits_BC
    if task == "multi_label":
        return 1 / (1 + np.exp(-logits_BC.astype(float).clip(-700, 700)))
    exponentials = np.exp(logits_BC.astype(float) - logits_BC.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def per_class(task: Task, predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return `label`, `precision`, `recall`, `f1` and `support` of each class, in the order of the names.

    There are none for regression.
    """
    if task == "regression":
        return []
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(labels, predicted, labels=range(len(names)), zero_division=0)
    return [
        {"label": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(names, *columns, strict=True)
    ]
