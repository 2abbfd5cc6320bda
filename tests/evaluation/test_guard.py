"""A teacher has to be better than one that has not read the text; bounds are what the statistics say."""

from typing import Any

import numpy as np
import pytest

from kd_dist.config.sections.evaluation import Guards
from kd_dist.data.examples import Examples
from kd_dist.errors import RunError
from kd_dist.evaluation.guard import enforce, fisher_lower_bound, judge, judge_value, wilson_lower_bound
from kd_dist.evaluation.scores import Predicted
from kd_dist.evaluation.scoring import Scored


def judged(task: Any, labels: np.ndarray, value: float, label2id: dict[str, int]) -> dict[str, Any]:
    metric = {"single_label": "accuracy", "multi_label": "micro_f1", "regression": "spearman"}[task]
    scored = Scored(None, [], Predicted(np.empty(0), []), None, {metric: value})
    return judge(scored, Examples("test", task, label2id, [], None, labels))


def test_the_guard_asks_for_more_than_the_largest_class() -> None:
    labels = np.array([0] * 60 + [1] * 40)
    found = judged("single_label", labels, 0.65, {"a": 0, "b": 1})
    assert (found["baseline"], found["baseline_label"], found["passed"]) == (0.6, "a", False)  # 0.65 may be luck
    assert judged("single_label", labels, 0.75, {"a": 0, "b": 1})["passed"]


def test_the_guard_of_the_other_tasks() -> None:
    labels = np.array([[1, 0], [1, 1], [1, 0], [0, 0]])
    found = judged("multi_label", labels, 0.8, {"a": 0, "b": 1})
    assert found["baseline"] == pytest.approx(2 * 3 / (4 + 4))  # 3 hits in 4 answers, 3 of 4 labels found
    assert found["passed"]
    assert not judged("regression", np.zeros(10), 0.3, {})["passed"]
    assert judged("regression", np.zeros(100), 0.3, {})["passed"]


def test_bounds_are_those_of_the_tables() -> None:
    assert wilson_lower_bound(0.8, 100) == pytest.approx(0.7112, abs=1e-4)
    assert wilson_lower_bound(1.0, 10) == pytest.approx(0.7225, abs=1e-4)
    assert fisher_lower_bound(0.5, 50) == pytest.approx(0.2575, abs=1e-4)
    assert fisher_lower_bound(1.0, 3) == -1.0


def test_a_refused_teacher_stops_the_run_and_a_warned_of_one_does_not(capsys) -> None:
    guard = judged("single_label", np.array([0, 1] * 10), 0.55, {"a": 0, "b": 1})
    with pytest.raises(RunError, match=r"lower 95 % bound .* always answering 'a' gives 0.5000: .*guards.teacher=warn"):
        enforce(Guards(teacher="refuse"), guard)
    enforce(Guards(teacher="warn"), guard)
    assert "warning: the teacher's accuracy is 0.5500 on 20 rows" in capsys.readouterr().out


def test_the_guard_says_whose_predictions_it_judged_and_the_way_out() -> None:
    guard = judge_value(0.55, Examples("train", "single_label", {"a": 0, "b": 1}, [], None, np.array([0, 1] * 10)))
    with pytest.raises(RunError, match=r"^the soft labels' accuracy is 0\.5500 .* to distil\. Ask again, or go on "):
        enforce(Guards(), guard, "the soft labels'", "Ask again")
