"""Losses of predictions equal their formulas, value and gradient; rows without a label add nothing."""

from typing import Any

import pytest
import torch
from torch import nn

from kd_dist.data.labels import NO_LABEL, Labels
from kd_dist.objectives.prediction_losses import (
    label_count,
    label_error,
    logit_error,
    masked_language_model_error,
    prediction_divergence,
    soft_label_count,
    soft_label_error,
)


def test_masked_language_model_error():
    logits_ND, labels_N = torch.randn(7, 11).bfloat16(), torch.randint(11, (7,))
    expected = -logits_ND.float().log_softmax(-1)[torch.arange(7), labels_N].sum()
    got = masked_language_model_error(logits_ND, labels_N)
    torch.testing.assert_close(got, expected)
    assert got.dtype == torch.float32
    none = torch.zeros(0, 11, requires_grad=True)
    masked_language_model_error(none, labels_N[:0]).backward()
    assert none.grad is not None


# ---------------------------------------------------------------------------------------------- labels and predictions


def logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_soft_cross_entropy_is_the_published_one_times_t_squared(temperature: float) -> None:
    student, teacher = logits(1, 5, 7).requires_grad_(), logits(2, 5, 7)
    soft = torch.exp(teacher / temperature) / torch.exp(teacher / temperature).sum(1, keepdim=True)
    log_soft = student / temperature - torch.logsumexp(student / temperature, dim=1, keepdim=True)
    published = -(soft * log_soft).mean()  # over samples and classes, without T squared
    ours = soft_label_error(student, teacher, "single_label", temperature=temperature, compat="none")
    theirs = soft_label_error(student, teacher, "single_label", temperature=temperature, compat="huawei")
    assert soft_label_count(5, 7, "single_label", "none") == 5
    torch.testing.assert_close(theirs / soft_label_count(5, 7, "single_label", "huawei"), published)
    torch.testing.assert_close(ours / 5, published * 7 * temperature**2)


def test_the_gradient_of_the_soft_cross_entropy_is_the_difference_of_the_predictions() -> None:
    student, teacher = logits(1, 5, 7).requires_grad_(), logits(2, 5, 7).requires_grad_()
    soft_label_error(student, teacher, "single_label", temperature=2.0, compat="none").backward()
    torch.testing.assert_close(student.grad, 2.0 * ((student / 2).softmax(1) - (teacher / 2).softmax(1)).detach())
    assert teacher.grad is None


def test_gradients_vanish_where_student_and_teacher_agree() -> None:
    for task, shape in (("single_label", (4, 3)), ("multi_label", (4, 3)), ("regression", (4, 1))):
        student = logits(3, *shape).requires_grad_()
        soft_label_error(student, student.detach(), task, temperature=3.0, compat="none").backward()
        torch.testing.assert_close(student.grad, torch.zeros_like(student))


def test_several_labels_are_distilled_class_by_class() -> None:
    student, teacher = logits(1, 4, 3), logits(2, 4, 3)
    target, guess = (teacher / 2).sigmoid(), (student / 2).sigmoid()
    expected = -4 * (target * guess.log() + (1 - target) * (1 - guess).log()).sum()
    found = soft_label_error(student, teacher, "multi_label", temperature=2.0, compat="none")
    torch.testing.assert_close(found, expected)
    assert soft_label_count(4, 3, "multi_label", "none") == 12


def test_numbers_are_distilled_by_their_squared_difference() -> None:
    student, teacher = logits(1, 4, 1), logits(2, 4, 1)
    found = soft_label_error(student, teacher, "regression", temperature=5.0, compat="none")
    torch.testing.assert_close(found, (student - teacher).square().sum())
    assert soft_label_count(4, 1, "regression", "none") == 4


def test_label_errors_are_those_of_torch() -> None:
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    single, labels = logits(1, 6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    mean = label_error(single, labels, "single_label", weights) / label_count(labels, "single_label", weights)
    torch.testing.assert_close(mean, nn.functional.cross_entropy(single, labels, weight=weights))
    several = torch.tensor([[1.0, 0.0, 1.0]] * 6, dtype=torch.float64)
    mean = label_error(single, several, "multi_label") / label_count(several, "multi_label")
    torch.testing.assert_close(mean, nn.functional.binary_cross_entropy_with_logits(single, several))
    numbers = logits(4, 6)
    mean = label_error(single[:, :1], numbers, "regression") / label_count(numbers, "regression")
    torch.testing.assert_close(mean, nn.functional.mse_loss(single[:, 0], numbers))


def test_the_logit_error_is_a_squared_difference() -> None:
    student, teacher = logits(1, 4, 3), logits(2, 4, 3)
    torch.testing.assert_close(logit_error(student, teacher) / 12, nn.functional.mse_loss(student, teacher))


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_the_divergence_is_that_of_torch_and_of_the_formula(direction: Any) -> None:
    student, teacher = logits(1, 5, 7), logits(2, 5, 7)
    p, q = (teacher, student) if direction == "teacher_student" else (student, teacher)
    found = prediction_divergence(student, teacher, "single_label", direction)
    torch.testing.assert_close(found, (p.softmax(1) * (p.softmax(1) / q.softmax(1)).log()).sum())
    torch.testing.assert_close(found, nn.functional.kl_div(q.log_softmax(1), p.softmax(1), reduction="sum"))


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_the_divergence_of_several_labels_is_summed_over_them(direction: Any) -> None:
    student, teacher = logits(1, 4, 3), logits(2, 4, 3)
    p, q = (teacher, student) if direction == "teacher_student" else (student, teacher)
    yes, no = ((p * s).sigmoid() * ((p * s).sigmoid() / (q * s).sigmoid()).log() for s in (1, -1))
    torch.testing.assert_close(prediction_divergence(student, teacher, "multi_label", direction), (yes + no).sum())


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_the_divergence_is_0_with_its_gradient_where_both_agree_and_above_elsewhere(direction: Any, task: Any) -> None:
    student, teacher = logits(1, 4, 3).requires_grad_(), logits(2, 4, 3).requires_grad_()
    assert prediction_divergence(student, teacher, task, direction) > 0
    same = prediction_divergence(student, student.detach(), task, direction)
    same.backward()
    assert same.item() == 0
    torch.testing.assert_close(student.grad, torch.zeros_like(student))
    prediction_divergence(student, teacher, task, direction).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_the_divergence_of_certain_predictions_is_finite(direction: Any, task: Any) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]]).requires_grad_()
    found = prediction_divergence(student, torch.tensor([[-1e4, 1e4, 0.0]]), task, direction)
    found.backward()
    assert torch.isfinite(found)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_rows_without_a_label_add_nothing(task: str) -> None:
    labels = Labels(task, {} if task == "regression" else {"a": 0, "b": 1, "c": 2})
    given = {"single_label": [2, 0], "multi_label": [[1.0, 0.0, 1.0], [0.0] * 3], "regression": [0.5, -1.0]}[task]
    logits_BC = logits(3, 4, labels.num_labels)
    mixed = torch.tensor([given[0], labels.missing(), given[1], labels.missing()])
    known = torch.tensor(given)
    rows = logits_BC[[0, 2]]
    torch.testing.assert_close(label_error(logits_BC, mixed, task), label_error(rows, known, task))
    assert label_count(mixed, task) == label_count(known, task)


def test_rows_without_a_label_have_no_class_weight() -> None:
    weights_C = torch.tensor([1.0, 2.0, 4.0])
    assert label_count(torch.tensor([2, NO_LABEL, 1]), "single_label", weights_C) == 6.0
