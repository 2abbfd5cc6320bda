"""Uncertainty is what the formulae say, from 0 for certain to 1 for no idea, whatever the number of classes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kd_dist.config.sections.evaluation import Uncertainty
from kd_dist.models.uncertainty import predicted_classes, uncertainty

MEASURES: list[Any] = ["entropy", "top_k_entropy", "margin"]
TASKS: list[Any] = ["single_label", "multi_label"]
EVERY = [(task, measure) for task in TASKS for measure in MEASURES]


def logits(num_classes: int, num_rows: int = 50) -> Tensor:
    return torch.randn(num_rows, num_classes, generator=torch.Generator().manual_seed(num_classes)) * 3


def of_probabilities(probabilities: list[float], measure: Uncertainty, top_k: int = 5) -> float:
    return float(uncertainty(torch.tensor([probabilities]).log(), "single_label", measure, top_k))


def of_chances(chances: list[float], measure: Uncertainty, top_k: int = 5) -> float:
    return float(uncertainty(torch.tensor([chances]).logit(), "multi_label", measure, top_k))


def entropy(*probabilities: float) -> float:
    return -sum(p * math.log(p) for p in probabilities)


def bits(chance: float) -> float:
    return entropy(chance, 1 - chance) / math.log(2)


def test_entropy_by_hand() -> None:
    assert of_probabilities([0.5, 0.3, 0.2], "entropy") == pytest.approx(entropy(0.5, 0.3, 0.2) / math.log(3))
    assert of_chances([0.9, 0.4], "entropy") == pytest.approx((bits(0.9) + bits(0.4)) / 2)


def test_entropy_of_the_most_probable_classes_by_hand() -> None:
    shares = 0.5 / 0.8, 0.3 / 0.8
    assert of_probabilities([0.15, 0.5, 0.05, 0.3], "top_k_entropy", 2) == pytest.approx(entropy(*shares) / math.log(2))
    assert of_chances([0.99, 0.4, 0.2], "top_k_entropy", 2) == pytest.approx((bits(0.4) + bits(0.2)) / 2)


def test_margin_by_hand() -> None:
    assert of_probabilities([0.15, 0.5, 0.05, 0.3], "margin") == pytest.approx(0.8)
    assert of_chances([0.9, 0.3], "margin") == pytest.approx(1 - 0.4)


@pytest.mark.parametrize("num_classes", [2, 3, 65])
@pytest.mark.parametrize(("task", "measure"), EVERY)
def test_no_idea_is_1_and_certain_is_0(task: Any, measure: Any, num_classes: int) -> None:
    nothing, certain = torch.zeros(1, num_classes), torch.full((1, num_classes), -200.0)
    certain[0, 1] = 200.0
    assert float(uncertainty(nothing, task, measure, 5)) == pytest.approx(1, abs=1e-6)
    assert float(uncertainty(certain, task, measure, 5)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3, 65])
@pytest.mark.parametrize(("task", "measure"), EVERY)
def test_it_is_from_0_to_1_whatever_the_order_of_the_classes(task: Any, measure: Any, num_classes: int) -> None:
    logits_BC = logits(num_classes)
    found_B = uncertainty(logits_BC, task, measure, 5)
    assert found_B.shape == (50,)
    assert ((found_B >= -1e-6) & (found_B <= 1 + 1e-6)).all()
    shuffled_BC = logits_BC[:, torch.randperm(num_classes, generator=torch.Generator().manual_seed(1))]
    torch.testing.assert_close(uncertainty(shuffled_BC, task, measure, 5), found_B)


@pytest.mark.parametrize("measure", MEASURES)
def test_adding_to_all_logits_changes_nothing_of_single_labels(measure: Any) -> None:
    shifted = uncertainty(logits(7) + 5, "single_label", measure, 3)
    torch.testing.assert_close(shifted, uncertainty(logits(7), "single_label", measure, 3), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("measure", MEASURES)
def test_yes_and_no_are_alike_to_several_labels(measure: Any) -> None:
    torch.testing.assert_close(
        uncertainty(-logits(7), "multi_label", measure, 3), uncertainty(logits(7), "multi_label", measure, 3)
    )


@pytest.mark.parametrize("task", TASKS)
def test_more_top_classes_than_there_are_is_the_entropy(task: Any) -> None:
    for num_classes in (2, 5):
        torch.testing.assert_close(
            uncertainty(logits(num_classes), task, "top_k_entropy", 5),
            uncertainty(logits(num_classes), task, "entropy", 5),
        )


def test_a_tail_of_many_classes_moves_the_entropy_but_not_that_of_the_top() -> None:
    """Torn between two of 65 classes is no idea at all to the top two, and quite sure to the entropy."""
    torn = torch.full((1, 65), -20.0)
    torn[0, :2] = 0.0
    assert float(uncertainty(torn, "single_label", "entropy", 2)) == pytest.approx(math.log(2) / math.log(65), abs=1e-4)
    assert float(uncertainty(torn, "single_label", "top_k_entropy", 2)) == pytest.approx(1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("task", "measure"), EVERY)
def test_logits_that_are_not_finite_are_not_called_sure(task: Any, measure: Any, value: float) -> None:
    found = uncertainty(torch.tensor([[value, 0.0, 1.0], [9.0, 0.0, 1.0]]), task, measure, 2)
    assert found.isnan().tolist() == [True, False]


def test_half_precision_is_measured_in_full() -> None:
    logits_BC = logits(65).bfloat16()
    found = uncertainty(logits_BC, "single_label", "entropy", 5)
    torch.testing.assert_close(found, uncertainty(logits_BC.float(), "single_label", "entropy", 5), atol=0, rtol=0)


def test_predicted_classes() -> None:
    logits_BC = torch.tensor([[0.5, 2.0, -1.0], [0.0, -2.0, -1.0]])
    assert predicted_classes(logits_BC, "single_label").tolist() == [1, 0]
    assert predicted_classes(logits_BC, "multi_label").tolist() == [[True, True, False], [False, False, False]]
