"""The tasks that labels define, and the metrics of each."""

from typing import Literal

Task = Literal["single_label", "multi_label", "regression"]

METRICS: dict[Task, tuple[str, ...]] = {
    "single_label": ("accuracy", "macro_f1"),
    "multi_label": ("micro_f1", "macro_f1", "accuracy"),
    "regression": ("spearman", "pearson", "mean_squared_error"),
}


def main_metric(task: Task) -> str:
    """Return the score that decides which weights are kept and whether a teacher is good enough."""
    return METRICS[task][0]
