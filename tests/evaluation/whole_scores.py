"""Scores from logits in one step; evaluation takes the same steps a part of the rows at a time."""

import numpy as np

from kd_dist.config.tasks import Task
from kd_dist.evaluation.scores import check_fit, num_not_finite, predictions, refuse_not_finite, scores_of


def scores(task: Task, logits_BC: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    check_fit(task, logits_BC.shape, labels)
    refuse_not_finite(num_not_finite(logits_BC), len(logits_BC))
    return scores_of(task, predictions(task, logits_BC), labels)
