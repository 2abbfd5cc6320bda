"""The loss of self-attention relations (MiniLMv2: Wang et al. 2021), as a plain sum with its count.

Shapes: B batch, S sequence, R relation heads, P student's and T teacher's size of one; D width.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from kd_dist.objectives.precision import at_least_float32, full_precision

CHUNK = 2**24  # elements of one S x S matrix for all texts and for the relation heads that are computed together


def relation_divergence(student_BSD: Tensor, teacher_BSD: Tensor, mask_BS: Tensor, relation_heads: int) -> Tensor:
    """Return the sum of KL(teacher || student) between relations, eq. 6 before its mean.

    Each width is cut into relation heads. The relation of a position to the valid ones is the softmax of its scaled
    products with them in one head, softmax(A A' / sqrt(size)) as in eq. 7. The sum runs over heads and valid positions;
    divide by `relation_count`. Padded positions neither have relations nor are related to. No gradient flows to the
    teacher, and no S x S matrix outlives this call.

    Args:
        student_BSD: Queries, keys or values of one layer of the student, its heads side by side.
        teacher_BSD: Those of the teacher; its width may differ, batch and length may not.
        mask_BS: Valid positions.
        relation_heads: Their number, a divisor of both widths.

    Raises:
        ValueError: Batch or lengths disagree, or the heads do not divide a width.
    """
    if student_BSD.shape[:2] != teacher_BSD.shape[:2] or student_BSD.shape[:2] != mask_BS.shape:
        raise ValueError(
            f"Student, teacher and mask disagree: {tuple(student_BSD.shape)}, {tuple(teacher_BSD.shape)}, "
            f"{tuple(mask_BS.shape)}"
        )
    valid_BS = mask_BS.bool()
    student_BRSP = _in_heads(student_BSD, valid_BS, relation_heads)
    return _Divergence.apply(student_BRSP, _in_heads(teacher_BSD.detach(), valid_BS, relation_heads), valid_BS)


def relation_count(mask_BS: Tensor, relation_heads: int) -> Tensor:
    """Return the number of relations that `relation_divergence` compares: valid positions x heads."""
    return mask_BS.bool().sum() * relation_heads


def _in_heads(tensor_BSD: Tensor, valid_BS: Tensor, relation_heads: int) -> Tensor:
    """Cut the width into heads, scaled so that products are scores, and fill padding with zeros."""
    if tensor_BSD.shape[-1] % relation_heads:
        raise ValueError(f"{relation_heads} relation heads do not divide a width of {tensor_BSD.shape[-1]}")
    filled_BSD = at_least_float32(tensor_BSD).masked_fill(~valid_BS[..., None], 0.0)
    heads_BRSP = filled_BSD.unflatten(-1, (relation_heads, -1)).transpose(1, 2)
    return heads_BRSP / math.sqrt(math.sqrt(heads_BRSP.shape[-1]))


class _Divergence(torch.autograd.Function):
    """The divergence with its gradient, which has the size of the student's factors; autograd would keep S x S."""

    @staticmethod
    def forward(ctx: Any, student_BRSP: Tensor, teacher_BRST: Tensor, valid_BS: Tensor) -> Tensor:
        batch, _, length, _ = student_BRSP.shape
        together = max(1, CHUNK // (batch * length * length))
        pairs = zip(student_BRSP.split(together, dim=1), teacher_BRST.split(together, dim=1), strict=True)
        with full_precision(student_BRSP.device.type):
            parts = [_divergence(student, teacher, valid_BS) for student, teacher in pairs]
        ctx.save_for_backward(torch.cat([gradient for _, gradient in parts], dim=1))
        return torch.stack([value for value, _ in parts]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient_BRSP,) = ctx.saved_tensors
        return grad * gradient_BRSP, None, None


def _divergence(student_BRSP: Tensor, teacher_BRST: Tensor, valid_BS: Tensor) -> tuple[Tensor, Tensor]:
    """Return the divergence of some heads and its gradient (B, R, S, P)."""
    own_BRSS = _log_relations(student_BRSP, valid_BS)
    target_BRSS = _log_relations(teacher_BRST, valid_BS)
    valid_B1S1 = valid_BS[:, None, :, None]
    value = F.kl_div(own_BRSS, target_BRSS, reduction="none", log_target=True).masked_fill_(~valid_B1S1, 0.0).sum()
    # The score of positions i and j has the gradient (own - target), and is a product in which i and j both take part.
    slope_BRSS = (own_BRSS.exp_() - target_BRSS.exp_()).masked_fill_(~valid_B1S1, 0.0)
    return value, (slope_BRSS + slope_BRSS.mT) @ student_BRSP


def _log_relations(factors_BRSP: Tensor, valid_BS: Tensor) -> Tensor:
    """Return the logarithms of the relations (B, R, S, S); those to padding are finite and stand for 0."""
    scores_BRSS = factors_BRSP @ factors_BRSP.mT
    lowest = torch.finfo(scores_BRSS.dtype).min / 4  # not -inf: the difference of two such must not be NaN
    return scores_BRSS.masked_fill_(~valid_BS[:, None, None, :], lowest).log_softmax(dim=-1)
