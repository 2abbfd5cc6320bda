"""Samples exit below the threshold of a layer, or where enough layers in a row agree."""

import pytest
import torch
from torch import Tensor

from kd_dist.models.exit_rules import ExitRule, ExitTracker


def rule(*thresholds: float, patience: int | None = None) -> ExitRule:
    return ExitRule(thresholds, "entropy", 5, patience)


def exits(tracker: ExitTracker, layer: int, uncertainty: list[float], predicted: Tensor) -> list[bool]:
    numbers_B = torch.arange(len(uncertainty))
    return tracker.exits(layer, numbers_B, torch.tensor(uncertainty), predicted).tolist()


SAME = torch.tensor([1, 1, 1])


def test_each_layer_has_its_threshold() -> None:
    tracker = ExitTracker(rule(0.5, 0.2), 3)
    assert exits(tracker, 1, [0.1, 0.5, 0.9], SAME) == [True, False, False]
    assert exits(tracker, 2, [0.1, 0.5, 0.2], SAME) == [True, False, False]


def test_at_0_none_exits_and_at_1_all_do() -> None:
    tracker = ExitTracker(rule(0.0, 1.0), 3)
    assert exits(tracker, 1, [0.0, 0.5, 1.0], SAME) == [False, False, False]
    assert exits(tracker, 2, [0.0, 0.5, 1.0], SAME) == [True, True, True]


@pytest.mark.parametrize("patience", [None, 1])
def test_an_uncertainty_that_is_no_number_never_exits(patience: int | None) -> None:
    assert exits(ExitTracker(rule(1.0, patience=patience), 3), 1, [float("nan")] * 3, SAME) == [False] * 3


def test_patience_counts_layers_in_a_row() -> None:
    tracker = ExitTracker(rule(0.0, 0.0, 0.0, patience=2), 3)
    assert exits(tracker, 1, [0.9] * 3, torch.tensor([0, 1, 2])) == [False, False, False]
    assert exits(tracker, 2, [0.9] * 3, torch.tensor([0, 2, 2])) == [True, False, True]
    assert exits(tracker, 3, [0.9] * 3, torch.tensor([1, 2, 0])) == [False, True, False]


def test_several_labels_agree_only_if_all_do() -> None:
    tracker = ExitTracker(rule(0.0, 0.0, patience=2), 2)
    assert exits(tracker, 1, [0.9] * 2, torch.tensor([[True, False], [True, True]])) == [False, False]
    assert exits(tracker, 2, [0.9] * 2, torch.tensor([[True, False], [True, False]])) == [True, False]


def test_samples_are_remembered_by_their_number() -> None:
    tracker = ExitTracker(rule(0.0, 0.0, patience=2), 3)
    tracker.exits(1, torch.tensor([0, 1, 2]), torch.full((3,), 0.9), torch.tensor([0, 1, 2]))
    found = tracker.exits(2, torch.tensor([2, 0]), torch.full((2,), 0.9), torch.tensor([2, 2]))
    assert found.tolist() == [True, False]


def test_a_branch_is_needed_only_where_a_sample_can_exit() -> None:
    assert [rule(0.0, 0.3).needs_branch(layer) for layer in (1, 2)] == [False, True]
    assert [rule(0.0, 0.3, patience=2).needs_branch(layer) for layer in (1, 2)] == [True, True]
