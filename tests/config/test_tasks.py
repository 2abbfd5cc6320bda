"""Every task has metrics, and the first of them decides."""

from typing import get_args

import numpy as np
import pytest

from kd_dist.config.tasks import METRICS, Task, main_metric
from tests.evaluation.whole_scores import scores


@pytest.mark.parametrize("task", get_args(Task))
def test_the_metrics_of_a_task_are_those_that_are_computed(task: Task) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20, 1 if task == "regression" else 3))
    labels = {
        "single_label": random.integers(3, size=20),
        "multi_label": random.integers(2, size=(20, 3)),
        "regression": random.normal(size=20),
    }
    assert set(METRICS[task]) <= set(scores(task, logits, labels[task]))
    assert main_metric(task) == METRICS[task][0]
