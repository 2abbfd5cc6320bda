"""Losses of layers: pure functions that return plain sums, each with one that returns the number of summed terms.

Sums and counts are separate because the trainer adds both over all ranks and micro-batches before it divides: a mean
taken here would depend on how a global batch is split. Sums are scalars in float32 whatever precision the model runs in
(float64 for float64 inputs), with gradients for the student only. Counts are exact int64 scalars on the mask's device.

`mask_BS` is 1 (or True) at the tokens of a text and 0 at padding. `compat` chooses how padding is treated:
    "none"    padded positions contribute nothing, neither to a sum nor to a count;
    "huawei"  as in the published TinyBERT code, padding contributes; see each function.

Equations are those of TinyBERT (Jiao et al. 2020).
Shapes: B batch, S sequence, D width, H heads; of one head: K student's size, L teacher's size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kd_dist.config.sections.objective import Compat
from kd_dist.models.attention import Attention
from kd_dist.objectives.precision import at_least_float32, full_precision

# Return a value, and a function that computes its gradients with respect to the student's queries and keys.
_Form = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Callable[[], tuple[Tensor, Tensor]]]]


def attention_score_error(student: Attention, teacher: Attention, mask_BS: Tensor, *, compat: Compat) -> Tensor:
    """Return the sum of squared differences of the scaled pre-softmax attention scores, eq. 7 before its mean.

    The sum runs over heads and all pairs of a valid query and a valid key. Divide by `attention_score_count`. No
    gradient flows to the teacher.

    Sequences up to twice the sum of both head sizes use the scores themselves (`attention_score_error_direct`); longer
    ones avoid the S x S matrices (`attention_score_error_gram`). compat="huawei" always uses the scores: its limit of
    -100 acts on single scores, and whether any reaches it cannot be known without waiting for the device.

    Args:
        student: Queries and keys of the student.
        teacher: Those of the teacher; head sizes may differ, the number of heads may not.
        mask_BS: Valid positions.
        compat: "huawei": as published, scores are compared after the additive mask of -10000 at padded keys and after
            setting those <= -100 to 0, and padded queries take part (hence the contents of padding matter).

    Raises:
        ValueError: Heads, batch or lengths disagree.
    """
    length = student.query_BHSK.shape[-2]
    width = student.query_BHSK.shape[-1] + teacher.query_BHSK.shape[-1]
    # Measured on a CPU core, the times are equal between 1 and 1.5 times the width; the direct form is the exact one.
    if compat == "huawei" or length <= 2 * width:
        return attention_score_error_direct(student, teacher, mask_BS, compat=compat)
    return attention_score_error_gram(student, teacher, mask_BS)


def attention_score_error_direct(student: Attention, teacher: Attention, mask_BS: Tensor, *, compat: Compat) -> Tensor:
    """Return `attention_score_error` from the scores, in O(S^2 (K + L)) time per head; exactly 0 for equal inputs.

    The S x S matrices exist only during this call; none is kept for the backward pass.
    """
    _check_shapes(student, teacher, mask_BS)
    if compat == "none":
        return _evaluate(_direct, student, teacher, mask_BS)
    # As published, a padded key lowers the score by 10000 instead of removing it.
    bias_B11S = (~mask_BS.bool())[:, None, None, :] * -10000.0
    return _evaluate(_direct_published(bias_B11S), student, teacher, torch.ones_like(mask_BS))


def attention_score_error_gram(student: Attention, teacher: Attention, mask_BS: Tensor) -> Tensor:
    """Return `attention_score_error(compat="none")` without any S x S matrix, in O(S (K + L)^2) time per head.

    With Q and K of one head, the scaling folded into Q, and rows of padding set to 0,
        ||QsKs' - QtKt'||^2 = <Qs'Qs, Ks'Ks> + <Qt'Qt, Kt'Kt> - 2 <Qs'Qt, Ks'Kt>,
    where <,> sums the element-wise product of two matrices of head size x head size (the distinct blocks of the Gram
    matrices of [Qs, Qt] and [Ks, -Kt]).

    Equal to the direct form in real arithmetic, but it subtracts large numbers. Let r be the norm of the difference of
    the scores over the norm of the scores. The relative error of the value is 1e-8 / r^2 to 1e-7 / r^2, so that it may
    come out slightly negative where r < 1e-3; that of the gradient is only 4e-7 / r (1e-7 / r in the direct form). The
    value is not clamped at 0: that would stop a gradient that is still accurate, and would bias the sum.
    """
    _check_shapes(student, teacher, mask_BS)
    return _evaluate(_gram, student, teacher, mask_BS)


def attention_score_count(mask_BS: Tensor, num_heads: int, compat: Compat) -> Tensor:
    """Return the number of scores that `attention_score_error` compares: heads x the sum over texts of length^2.

    compat="huawei": B x H x S x S.
    """
    if compat == "huawei":
        return _count(mask_BS.numel() * mask_BS.shape[1] * num_heads, mask_BS)
    return mask_BS.bool().sum(dim=1).square().sum() * num_heads


def centred_keys(attention: Attention, mask_BS: Tensor) -> Attention:
    """Return the attention whose scores are those of `attention` minus each query's mean over its valid keys.

    Softmax ignores what is added to all scores of one query. Since Q(K - mean K)' = QK' - mean(QK'), it is enough to
    subtract from each key the mean of the valid ones; every form of `attention_score_error` then stays as it is.
    """
    valid_B1S1 = mask_BS.bool()[:, None, :, None]
    key_BHSK = at_least_float32(attention.key_BHSK).masked_fill(~valid_B1S1, 0.0)
    mean_BH1K = key_BHSK.sum(dim=2, keepdim=True) / valid_B1S1.sum(dim=2, keepdim=True)
    return Attention(attention.query_BHSK, key_BHSK - mean_BH1K, attention.scaling)


def attention_score_moments(attention: Attention, mask_BS: Tensor) -> Tensor:
    """Return the sum of the scaled scores and that of their squares, over heads and valid pairs: (2), in float64."""
    valid_B1S1 = mask_BS.bool()[:, None, :, None]
    query_BHSK = attention.query_BHSK.detach().double().masked_fill(~valid_B1S1, 0.0) * attention.scaling
    key_BHSK = attention.key_BHSK.detach().double().masked_fill(~valid_B1S1, 0.0)
    total = (query_BHSK.sum(dim=2) * key_BHSK.sum(dim=2)).sum()
    return torch.stack([total, _product_sum(query_BHSK.mT @ query_BHSK, key_BHSK.mT @ key_BHSK)])


def hidden_state_error(student_BSD: Tensor, teacher_BSD: Tensor, mask_BS: Tensor, *, compat: Compat) -> Tensor:
    """Return the sum of squared differences of hidden states, eq. 8 (or of embeddings, eq. 9) before its mean.

    The sum runs over valid positions and the width. Divide by `hidden_state_count`. No gradient flows to the teacher.

    Args:
        student_BSD: The student's states, already projected to the teacher's width.
        teacher_BSD: The teacher's states.
        mask_BS: Valid positions.
        compat: "huawei": the sum runs over all positions, padding included.

    Raises:
        ValueError: The shapes disagree.
    """
    if student_BSD.shape != teacher_BSD.shape or student_BSD.shape[:2] != mask_BS.shape:
        raise ValueError(
            f"Hidden states of student and teacher and the mask disagree: {tuple(student_BSD.shape)}, "
            f"{tuple(teacher_BSD.shape)}, {tuple(mask_BS.shape)}"
        )
    difference_BSD = at_least_float32(student_BSD) - at_least_float32(teacher_BSD.detach())
    if compat == "none":
        difference_BSD = difference_BSD.masked_fill(~mask_BS.bool()[..., None], 0.0)
    return difference_BSD.square().sum()


def hidden_state_count(mask_BS: Tensor, width: int, compat: Compat) -> Tensor:
    """Return the number of elements that `hidden_state_error` compares: valid positions x width.

    compat="huawei": B x S x width.
    """
    if compat == "huawei":
        return _count(mask_BS.numel() * width, mask_BS)
    return mask_BS.bool().sum() * width


def _count(number: int, mask_BS: Tensor) -> Tensor:
    return torch.full((), number, dtype=torch.int64, device=mask_BS.device)


def _check_shapes(student: Attention, teacher: Attention, mask_BS: Tensor) -> None:
    batch, heads, length, _ = student.query_BHSK.shape
    if teacher.query_BHSK.shape[1] != heads:
        raise ValueError(
            f"The student has {heads} attention heads and the teacher {teacher.query_BHSK.shape[1]}: "
            "attention scores can be compared only with equal numbers of heads"
        )
    if teacher.query_BHSK.shape[:3] != (batch, heads, length) or mask_BS.shape != (batch, length):
        raise ValueError(
            f"Batch or sequence length disagree: student {batch} x {length}, teacher {teacher.query_BHSK.shape[0]} x "
            f"{teacher.query_BHSK.shape[2]}, mask {tuple(mask_BS.shape)}"
        )


def _evaluate(form: _Form, student: Attention, teacher: Attention, mask_BS: Tensor) -> Tensor:
    """Apply a form to scaled queries and to keys, with zeros at padded positions."""
    padding_B1S1 = ~mask_BS.bool()[:, None, :, None]

    def prepared(tensor_BHSK: Tensor) -> Tensor:
        # Fill instead of multiplying, so that not even NaN in padding reaches the value or the gradient.
        return at_least_float32(tensor_BHSK).masked_fill(padding_B1S1, 0.0)

    return _ValueWithGradient.apply(
        form,
        prepared(student.query_BHSK) * student.scaling,
        prepared(student.key_BHSK),
        prepared(teacher.query_BHSK.detach()) * teacher.scaling,
        prepared(teacher.key_BHSK.detach()),
    )


class _ValueWithGradient(torch.autograd.Function):
    """A function that computes its gradients together with its value, in full float32.

    Autograd would compute them in backward, where TF32 may be on, from S x S matrices kept until then. Here only the
    gradients are kept, which have the size of Q and K.
    """

    @staticmethod
    def forward(
        ctx: Any,
        form: _Form,
        query_BHSK: Tensor,
        key_BHSK: Tensor,
        teacher_query_BHSL: Tensor,
        teacher_key_BHSL: Tensor,
    ) -> Tensor:
        with full_precision(query_BHSK.device.type):
            value, gradients = form(query_BHSK, key_BHSK, teacher_query_BHSL, teacher_key_BHSL)
            if any(ctx.needs_input_grad):
                ctx.save_for_backward(*gradients())
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, None, None]:
        grad_query_BHSK, grad_key_BHSK = ctx.saved_tensors
        return None, grad * grad_query_BHSK, grad * grad_key_BHSK, None, None


def _direct(
    query_BHSK: Tensor, key_BHSK: Tensor, teacher_query_BHSL: Tensor, teacher_key_BHSL: Tensor
) -> tuple[Tensor, Callable[[], tuple[Tensor, Tensor]]]:
    # Two products and a difference instead of one fused product, so that equal inputs give exactly 0.
    difference_BHSS = query_BHSK @ key_BHSK.mT
    difference_BHSS -= teacher_query_BHSL @ teacher_key_BHSL.mT

    def gradients() -> tuple[Tensor, Tensor]:
        return 2 * (difference_BHSS @ key_BHSK), 2 * (difference_BHSS.mT @ query_BHSK)

    return difference_BHSS.square().sum(), gradients


def _direct_published(bias_B11S: Tensor) -> _Form:
    """Return the direct form on scores after the additive mask, with scores <= -100 set to 0."""

    def form(
        query_BHSK: Tensor, key_BHSK: Tensor, teacher_query_BHSL: Tensor, teacher_key_BHSL: Tensor
    ) -> tuple[Tensor, Callable[[], tuple[Tensor, Tensor]]]:
        scores_BHSS = query_BHSK @ key_BHSK.mT + bias_B11S
        low_BHSS = scores_BHSS <= -100
        teacher_BHSS = teacher_query_BHSL @ teacher_key_BHSL.mT + bias_B11S
        difference_BHSS = scores_BHSS.masked_fill_(low_BHSS, 0.0)
        difference_BHSS -= teacher_BHSS.masked_fill_(teacher_BHSS <= -100, 0.0)

        def gradients() -> tuple[Tensor, Tensor]:
            slope_BHSS = 2 * difference_BHSS.masked_fill(low_BHSS, 0.0)  # a score set to 0 has no gradient
            return slope_BHSS @ key_BHSK, slope_BHSS.mT @ query_BHSK

        return difference_BHSS.square().sum(), gradients

    return form


def _gram(
    query_BHSK: Tensor, key_BHSK: Tensor, teacher_query_BHSL: Tensor, teacher_key_BHSL: Tensor
) -> tuple[Tensor, Callable[[], tuple[Tensor, Tensor]]]:
    query_BHKK, key_BHKK = query_BHSK.mT @ query_BHSK, key_BHSK.mT @ key_BHSK
    cross_query_BHKL, cross_key_BHKL = query_BHSK.mT @ teacher_query_BHSL, key_BHSK.mT @ teacher_key_BHSL
    teacher_query_BHLL = teacher_query_BHSL.mT @ teacher_query_BHSL
    teacher_key_BHLL = teacher_key_BHSL.mT @ teacher_key_BHSL
    value = (
        _product_sum(query_BHKK, key_BHKK)
        + _product_sum(teacher_query_BHLL, teacher_key_BHLL)
        - 2 * _product_sum(cross_query_BHKL, cross_key_BHKL)
    ).to(query_BHSK.dtype)

    def gradients() -> tuple[Tensor, Tensor]:
        return (
            2 * (query_BHSK @ key_BHKK - teacher_query_BHSL @ cross_key_BHKL.mT),
            2 * (key_BHSK @ query_BHKK - teacher_key_BHSL @ cross_query_BHKL.mT),
        )

    return value, gradients


def _product_sum(left: Tensor, right: Tensor) -> Tensor:
    # In float64, since the three sums nearly cancel; these matrices are small.
    return (left.double() * right.double()).sum()
