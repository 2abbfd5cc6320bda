"""Losses of predictions as pure functions that return plain sums, and the numbers to divide them by.

As for the losses of layers (`layer_losses`), the trainer adds sums and counts over ranks and micro-batches before it
divides, sums are scalars in float32 or more, and no gradient flows to the teacher.

Shapes: B batch, C classes, N predicted tokens, D vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kd_dist.config.objectives.fastbert import Direction
from kd_dist.config.sections.objective import Compat
from kd_dist.config.tasks import Task
from kd_dist.data.labels import NO_LABEL
from kd_dist.objectives.precision import at_least_float32


def masked_language_model_error(logits_ND: Tensor, labels_N: Tensor) -> Tensor:
    """Return the summed cross-entropy of N predicted tokens (0 for none); D is the vocabulary size. Divide by N.

    The caller passes only the positions to predict; there is no mask.
    """
    return F.cross_entropy(at_least_float32(logits_ND), labels_N, reduction="sum")


def label_error(logits_BC: Tensor, labels: Tensor, task: Task, class_weights_C: Tensor | None = None) -> Tensor:
    """Return the sum of the errors against true labels. Divide by `label_count`. Rows without a label add nothing.

    single_label: cross-entropy with `labels` (B), each sample weighted by its class (`class_weights_C`); no label: -100
    multi_label:  binary cross-entropy with `labels` (B, C) of 0 and 1, summed over samples and classes; NaN: no label.
    regression:   squared difference of the single output and `labels` (B); NaN: no label.
    """
    logits_BC = at_least_float32(logits_BC)
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
    student_BC, teacher_BC = at_least_float32(student_BC), at_least_float32(teacher_BC.detach())
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
    student = _log_probabilities(at_least_float32(student_BC), task)
    teacher = _log_probabilities(at_least_float32(teacher_BC.detach()), task)
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
    return (at_least_float32(student_BC) - at_least_float32(teacher_BC.detach())).square().sum()
