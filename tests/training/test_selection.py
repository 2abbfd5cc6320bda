"""Which step is kept, and when a stage ends early."""

from typing import get_args

import pytest

from kd_dist.config.sections.training import Selection
from kd_dist.config.tasks import METRICS
from kd_dist.training.selection import Best


def updates(best: Best, values: list[float]) -> list[bool]:
    return [best.update(step, {f"evaluation/{best.metric}": value}) for step, value in enumerate(values, start=1)]


def test_the_first_of_equals_is_kept() -> None:
    best = Best("accuracy", patience=None)
    assert updates(best, [0.5, 0.7, 0.7, 0.6]) == [True, True, False, False]
    assert (best.step, best.value, best.is_over()) == (2, 0.7, False)


def test_a_smaller_loss_is_better() -> None:
    best = Best("loss", patience=None)
    assert updates(best, [0.5, 0.7, 0.4]) == [True, False, True]
    assert best.step == 3


@pytest.mark.parametrize("metric", ["loss", "spearman"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_never_the_best(metric: str, bad: float) -> None:
    best = Best(metric, patience=3)
    assert updates(best, [bad, 0.5, bad, bad]) == [False, True, False, False]
    assert (best.step, best.value, best.evaluations_since) == (2, 0.5, 2)
    never = Best(metric, patience=3)
    updates(never, [bad] * 3)
    assert (never.step, never.is_over()) == (0, True)


@pytest.mark.parametrize("metric", get_args(Selection.model_fields["metric"].annotation))
def test_of_everything_else_that_can_be_selected_by_more_is_better(metric: str) -> None:
    if metric not in ("auto", "loss"):
        assert metric in {name for names in METRICS.values() for name in names} - {"mean_squared_error"}
        assert updates(Best(metric, patience=None), [0.5, 0.4, 0.6]) == [True, False, True]


def test_patience_counts_evaluations_since_the_best() -> None:
    best = Best("micro_f1", patience=2)
    updates(best, [0.5, 0.4])
    assert not best.is_over()
    best.update(3, {"evaluation/micro_f1": 0.3})
    assert best.is_over()


def test_the_state_carries_over() -> None:
    best, copy = Best("accuracy", patience=3), Best("accuracy", patience=3)
    updates(best, [0.5, 0.4])
    copy.load(best.state())
    assert copy == best


def test_an_unknown_metric_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        Best("accuracy", patience=None).update(1, {"evaluation/loss": 0.1})
