"""Losses as pure functions that return plain sums, each with a function that returns the number of summed terms.

Sums and counts are separate because the trainer adds both over all ranks and micro-batches before it divides: a mean
taken here would depend on how a global batch is split. Sums are scalars in float32 whatever precision the model runs in
(float64 for float64 inputs), with gradients for the student only. Counts are exact int64 scalars on the mask's device.

`mask_BS` is 1 (or True) at the tokens of a text and 0 at padding. `compat` chooses how padding is treated:
    "none"    padded positions contribute nothing, neither to a sum nor to a count;
    "huawei"  as in the published TinyBERT code, padding contributes; see each function.

Equations are those of TinyBERT (Jiao et al. 2020).
Shapes: B batch, S sequence, D width, H heads, C classes, N rows; of one head: K student's size, L teacher's size.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from kd_dist.config.objectives.fastbert import Direction
from kd_dist.config.sections.objective import Compat
from kd_dist.config.tasks import Task
from kd_dist.data.labels import NO_LABEL
from kd_dist.models.attention import Attention

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
    key_BHSK = _at_least_float32(attention.key_BHSK).masked_fill(~valid_B1S1, 0.0)
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
    difference_BSD = _at_least_float32(student_BSD) - _at_least_float32(teacher_BSD.detach())
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


def masked_language_model_error(logits_ND: Tensor, labels_N: Tensor) -> Tensor:
    """Return the summed cross-entropy of N predicted tokens (0 for none); D is the vocabulary size. Divide by N.

    The caller passes only the positions to predict; there is no mask.
    """
    return F.cross_entropy(_at_least_float32(logits_ND), labels_N, reduction="sum")


def label_error(logits_BC: Tensor, labels: Tensor, task: Task, class_weights_C: Tensor | None = None) -> Tensor:
    """Return the sum of the errors against true labels. Divide by `label_count`. Rows without a label add nothing.

    single_label: cross-entropy with `labels` (B), each sample weighted by its class (`class_weights_C`); no label: -100
    multi_label:  binary cross-entropy with `labels` (B, C) of 0 and 1, summed over samples and classes; NaN: no label.
    regression:   squared difference of the single output and `labels` (B); NaN: no label.
    """
    logits_BC = _at_least_float32(logits_BC)
    if task == "single_label":
        return F.cross_entropy(logits_BC, labels, weight=class_weights_C, reduction="sum", ignore_index=NO_LABEL)
    known, labels = (~labels.isnan()).to(logits_BC.dtype), labels.nan_to_num().to(logits_BC.dtype)
    if task == "multi_label":
        return F.binary_cross_entropy_with_logits(logits_BC, labels, weight=known, reduction="sum")
    return ((logits_BC[:, 0] - labels).square() * known).sum()


def label_count(labels: Tensor, task: Task, class_weights_C: Tensor | None = None) -> Tensor:
    """Return the divisor of `label_error`: the sum of the samples' class weights (1 each by default), or B x C.

    Rows without a label do not count.
    """
    if task != "single_label":
        return (~labels.isnan()).sum()
    known = labels != NO_LABEL
    if class_weights_C is None:
        return known.sum()
    return (class_weights_C[labels.clamp(min=0)] * known).sum()


def soft_label_error(
    student_BC: Tensor, teacher_BC: Tensor, task: Task, *, temperature: float, compat: Compat
) -> Tensor:
    """Return the sum of the errors against the teacher's prediction, eq. 10 before its mean.

    Divide by `soft_label_count`. The logits of both are divided by the temperature T:
    single_label: cross-entropy of the student's softmax with the teacher's, summed over samples.
    multi_label:  binary cross-entropy of the student's sigmoid with the teacher's, summed over samples and classes.
    regression:   squared difference of the outputs, without temperature. (The published code compares with the true
                  label there, which `label_error` does.)

    The sum is multiplied by T squared, so that gradients keep their size (Hinton et al. 2015, section 2). No gradient
    flows to the teacher.

    compat="huawei": as published, without the factor T squared.
    """
    student_BC, teacher_BC = _at_least_float32(student_BC), _at_least_float32(teacher_BC.detach())
    if task == "regression":
        return (student_BC - teacher_BC).square().sum()
    student_BC, teacher_BC = student_BC / temperature, teacher_BC / temperature
    scale = 1.0 if compat == "huawei" else temperature**2
    if task == "multi_label":
        return scale * F.binary_cross_entropy_with_logits(student_BC, teacher_BC.sigmoid(), reduction="sum")
    return scale * F.cross_entropy(student_BC, teacher_BC.softmax(dim=1), reduction="sum")


def soft_label_count(num_samples: int, num_classes: int, task: Task, compat: Compat) -> int:
    """Return the divisor of `soft_label_error`: samples, times classes where the sum runs over classes.

    compat="huawei": samples x classes in every task, so that single_label has 1 / C of the usual gradient.
    """
    return num_samples * (num_classes if task == "multi_label" or compat == "huawei" else 1)


def prediction_divergence(student_BC: Tensor, teacher_BC: Tensor, task: Task, direction: Direction) -> Tensor:
    """Return the KL divergence between two predictions, summed over samples (FastBERT, Liu et al. 2020, equation 7).

    Divide by the number of samples. In a multi_label task, every label is a distribution over yes and no, and the sum
    runs over labels too. No gradient flows to the teacher.

    Args:
        student_BC: Logits of the student.
        teacher_BC: Logits of the teacher.
        task: single_label or multi_label.
        direction: "teacher_student": KL(t || s), the sum of p_t (log p_t - log p_s), as in the authors' code, which
            makes the student cover everything that the teacher considers possible. "student_teacher": KL(s || t), as
            in the paper.
    """
    student = _log_probabilities(_at_least_float32(student_BC), task)
    teacher = _log_probabilities(_at_least_float32(teacher_BC.detach()), task)
    first, second = (teacher, student) if direction == "teacher_student" else (student, teacher)
    return (first.exp() * (first - second)).sum()


def _log_probabilities(logits_BC: Tensor, task: Task) -> Tensor:
    """Return log-probabilities of the classes, (B, C), or of yes and no for every label, (B, 2C)."""
    if task == "multi_label":
        return torch.cat([F.logsigmoid(logits_BC), F.logsigmoid(-logits_BC)], dim=1)
    return logits_BC.log_softmax(dim=1)


def logit_error(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Return the sum of squared differences of the logits (Ba and Caruana 2014). Divide by B x C.

    No gradient flows to the teacher.
    """
    return (_at_least_float32(student_BC) - _at_least_float32(teacher_BC.detach())).square().sum()


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


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
        return _at_least_float32(tensor_BHSK).masked_fill(padding_B1S1, 0.0)

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
        with _full_precision(query_BHSK.device.type):
            value, gradients = form(query_BHSK, key_BHSK, teacher_query_BHSL, teacher_key_BHSL)
            if any(ctx.needs_input_grad):
                ctx.save_for_backward(*gradients())
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, None, None]:
        grad_query_BHSK, grad_key_BHSK = ctx.saved_tensors
        return None, grad * grad_query_BHSK, grad * grad_key_BHSK, None, None


@contextmanager
def _full_precision(device_type: str) -> Iterator[None]:
    """Turn off autocast, TF32 and their CPU counterparts within the context."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    with torch.autocast(device_type, enabled=False):
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision


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
