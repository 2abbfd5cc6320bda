"""Measures of how uncertain a prediction is: from 0 for certain to 1 for nothing known at all.

A sample exits early when its uncertainty is below the speed that was asked for. With several independent labels
(`multi_label`) each is a question of its own, yes or no.

Shapes: B batch, C classes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kd_dist.config.sections.evaluation import Uncertainty
from kd_dist.config.tasks import Task


def uncertainty(logits_BC: Tensor, task: Task, measure: Uncertainty, top_k: int) -> Tensor:
    """Measure the uncertainty of each prediction.

    single_label, with the probabilities p of the softmax:
        entropy         -sum p log p / log C (FastBERT, Liu et al. 2020, equation 9);
        top_k_entropy   the same over the `top_k` most probable classes, their probabilities made to sum to 1. With many
                        classes a tail of tiny probabilities keeps the entropy away from 1, so that one speed means
                        something else for each number of classes;
        margin          1 - (the largest p - the second largest).
    multi_label, with the probabilities p of the sigmoids and the entropy of a yes or no in bits:
        entropy         its mean over the classes;
        top_k_entropy   its mean over the `top_k` most uncertain classes;
        margin          1 - the smallest |2 p - 1|.

    Args:
        logits_BC: of any floating-point type; measured in fp32.
        task: single_label or multi_label.
        measure: as above.
        top_k: at least 2; of fewer classes all are looked at.

    Returns:
        (B) numbers from 0 to 1; NaN where a logit is not finite.
    """
    logits_BC = logits_BC.float()
    measured = _of_labels if task == "multi_label" else _of_classes
    uncertainty_B = measured(logits_BC, measure, min(top_k, logits_BC.shape[1]))
    return uncertainty_B.masked_fill(~logits_BC.isfinite().all(dim=1), float("nan"))


def _of_classes(logits_BC: Tensor, measure: Uncertainty, top_k: int) -> Tensor:
    if measure == "margin":
        first_B, second_B = logits_BC.softmax(dim=1).topk(2, dim=1).values.unbind(dim=1)
        return 1 - (first_B - second_B)
    if measure == "top_k_entropy":
        logits_BC = logits_BC.topk(top_k, dim=1).values  # the softmax of a part is the part's share of the softmax
    log_BC = logits_BC.log_softmax(dim=1)
    return -(log_BC.exp() * log_BC).sum(dim=1) / math.log(log_BC.shape[1])


def _of_labels(logits_BC: Tensor, measure: Uncertainty, top_k: int) -> Tensor:
    if measure == "margin":
        return 1 - (2 * logits_BC.sigmoid() - 1).abs().amin(dim=1)
    yes_BC, no_BC = F.logsigmoid(logits_BC), F.logsigmoid(-logits_BC)
    entropy_BC = -(yes_BC.exp() * yes_BC + no_BC.exp() * no_BC) / math.log(2)
    if measure == "top_k_entropy":
        entropy_BC = entropy_BC.topk(top_k, dim=1).values
    return entropy_BC.mean(dim=1)


def predicted_classes(logits_BC: Tensor, task: Task) -> Tensor:
    """Return what is predicted, to be compared between layers: (B) the class, or (B, C) which labels."""
    return logits_BC > 0 if task == "multi_label" else torch.argmax(logits_BC, dim=1)
