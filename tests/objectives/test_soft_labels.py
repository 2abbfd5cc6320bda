"""Distillation of the prediction equals its formula; the teacher's labels are matched by name."""

import json

import torch
from torch import nn

from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.models.teacher import Teacher
from tests.conftest import LabelledWorld
from tests.objectives.builders import built, stage


def test_soft_labels_compare_with_the_teacher_and_padding_changes_nothing(
    labelled: LabelledWorld, labelled_batch: dict[str, torch.Tensor]
) -> None:
    settings = SoftLabelsObjective(temperature=2.0, hard_weight=0.5, logits_weight=0.1)
    method = built(stage(labelled, settings))
    teacher = Teacher(str(labelled.teacher), method.wanted(), precision="fp32", device=torch.device("cpu"))
    (sums, logits_BC), targets = method(labelled_batch, teacher(labelled_batch)), teacher(labelled_batch).logits
    soft = -4 * ((targets / 2).softmax(1) * (logits_BC / 2).log_softmax(1)).sum(1).mean()
    counts = method.counts(labelled_batch)
    torch.testing.assert_close(sums["soft"] / counts["soft"], soft)
    torch.testing.assert_close(sums["logits"] / counts["logits"], nn.functional.mse_loss(logits_BC, targets))
    torch.testing.assert_close(
        sums["hard"] / counts["hard"], nn.functional.cross_entropy(logits_BC, labelled_batch["labels"])
    )
    wider = {name: nn.functional.pad(t, (0, 5)) if t.ndim == 2 else t for name, t in labelled_batch.items()}
    for term, value in method(wider, teacher(wider)).sums.items():
        torch.testing.assert_close(value, sums[term], atol=1e-4, rtol=1e-5)


def test_the_trained_teacher_and_its_order_of_labels_are_what_is_distilled(
    labelled: LabelledWorld, labelled_batch: dict[str, torch.Tensor]
) -> None:
    config = json.loads((labelled.teacher / "config.json").read_text())
    swapped = {name: 1 - number for name, number in config["label2id"].items()}
    wanted = built(stage(labelled, SoftLabelsObjective())).wanted()
    plain = Teacher(str(labelled.teacher), wanted, precision="fp32", device=torch.device("cpu"))
    mapped = Teacher(str(labelled.teacher), wanted, precision="fp32", device=torch.device("cpu"), label2id=swapped)
    torch.testing.assert_close(mapped(labelled_batch).logits, plain(labelled_batch).logits.flip(1))
