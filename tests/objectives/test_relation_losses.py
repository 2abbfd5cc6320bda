"""The loss of relations equals the published formula, value and gradient, and padding changes nothing."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kd_dist.objectives import relation_losses
from kd_dist.objectives.relation_losses import relation_count, relation_divergence

HEADS = 6
LENGTHS = [5, 9, 1]


@pytest.fixture
def factors() -> tuple[Tensor, Tensor, Tensor]:
    """Of a student of width 24 and a teacher of width 36, with the mask."""
    torch.manual_seed(0)
    mask_BS = (torch.arange(9) < torch.tensor(LENGTHS)[:, None]).long()
    return torch.randn(3, 9, 24, requires_grad=True), 2 * torch.randn(3, 9, 36), mask_BS


def published(student_BSD: Tensor, teacher_BSD: Tensor) -> Tensor:
    """Equations 6 and 7, text by text and head by head."""
    total = torch.zeros(())
    for student, teacher, length in zip(student_BSD, teacher_BSD, LENGTHS, strict=True):
        for own, target in zip(student[:length].chunk(HEADS, 1), teacher[:length].chunk(HEADS, 1), strict=True):
            relations = [F.softmax(side @ side.T / math.sqrt(side.shape[1]), dim=-1) for side in (own, target)]
            total = total + (relations[1] * (relations[1] / relations[0]).log()).sum()
    return total


@pytest.mark.parametrize("chunk", [1, 2**24])
def test_value_and_gradient_equal_the_formula(
    factors: tuple[Tensor, Tensor, Tensor], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relation_losses, "CHUNK", chunk)
    student, teacher, mask = factors
    found, expected = relation_divergence(student, teacher, mask, HEADS), published(student, teacher)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(3 * value, student)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    assert relation_count(mask, HEADS) == HEADS * sum(LENGTHS)


def test_equal_factors_diverge_by_nothing_even_under_a_rotation(factors: tuple[Tensor, Tensor, Tensor]) -> None:
    student, _, mask = factors
    own = student.detach()
    rotation, _ = torch.linalg.qr(torch.randn(4, 4))
    rotated = (own.unflatten(-1, (HEADS, 4)) @ rotation).flatten(2)
    assert float(relation_divergence(own, own, mask, HEADS)) == 0
    assert float(relation_divergence(own, rotated, mask, HEADS)) == pytest.approx(0, abs=1e-4)


def test_neither_contents_nor_amount_of_padding_count(factors: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, mask = factors
    padded = [torch.cat([side.detach(), torch.zeros(3, 4, side.shape[2])], dim=1) for side in (student, teacher)]
    wider = torch.cat([mask, torch.zeros(3, 4, dtype=torch.long)], dim=1)
    for side in padded:
        side[wider == 0] = float("nan")
    padded[0].requires_grad_()
    found = relation_divergence(padded[0], padded[1], wider, HEADS)
    expected = relation_divergence(student, teacher, mask, HEADS)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, padded[0])
    torch.testing.assert_close(gradient[:, :9], torch.autograd.grad(expected, student)[0])
    assert not gradient[wider == 0].any()


def test_under_bf16_autocast_the_loss_is_that_of_the_factors(factors: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, mask = factors
    with torch.autocast("cpu", torch.bfloat16):
        mixed = relation_divergence(student, teacher, mask, HEADS)
    torch.testing.assert_close(mixed, relation_divergence(student, teacher, mask, HEADS), rtol=0, atol=0)


def test_disagreeing_shapes_are_refused(factors: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, mask = factors
    with pytest.raises(ValueError, match="disagree"):
        relation_divergence(student[:2], teacher, mask, HEADS)
    with pytest.raises(ValueError, match="5 relation heads do not divide a width of 24"):
        relation_divergence(student, teacher, mask, 5)
