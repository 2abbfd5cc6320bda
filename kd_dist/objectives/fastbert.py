"""FastBERT's self-distillation (Liu et al. 2020, equations 7 and 8): branches learn from the last classifier.

The backbone and its head are frozen and in eval mode; labels are not looked at.

Shapes: B batch, L layers, C classes.
"""

from typing import Any

import torch
from torch import Tensor

from kd_dist.config.sections.objectives import FastBertObjective
from kd_dist.config.stages import TrainStage
from kd_dist.errors import RunError
from kd_dist.models.classifier import load_classifier
from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.models.teacher import Batch, Encoded, model_inputs
from kd_dist.objectives.base import Objective
from kd_dist.objectives.losses import prediction_divergence


class FastBert(Objective):
    """The divergence of every branch from the last classifier, summed over branches and samples."""

    student: FastBertForSequenceClassification

    def __init__(self, student: FastBertForSequenceClassification, settings: FastBertObjective) -> None:
        super().__init__()
        self.student, self._direction = student, settings.direction
        student.backbone.requires_grad_(False)
        student.branches.requires_grad_(True)  # whatever they were loaded for

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"branches": float(len(batch["input_ids"]))}

    def forward(self, batch: Batch, teacher: Encoded | None) -> dict[str, Tensor]:
        *branches_LBC, last_BC = self.student.all_logits(model_inputs(self.student, batch))
        errors = [prediction_divergence(own_BC, last_BC, self.student.task, self._direction) for own_BC in branches_LBC]
        return {"branches": torch.stack(errors).sum()}


def build(stage: TrainStage, tokenizer: Any) -> FastBert:
    """New branches on a trained classifier; those that a model has learn on, whatever `objective.branch_*` says.

    Raises:
        UserError: the model is no trained classifier.
        RunError: it predicts a number, which has no uncertainty, or has a single layer.
    """
    assert isinstance(stage.objective, FastBertObjective)
    assert stage.model is not None
    settings = stage.objective
    classifier = load_classifier(stage.model.path, torch.device("cpu"))
    if classifier.task == "regression":
        raise RunError(f"{stage.model.path} predicts a number, not labels: there is no uncertainty to leave early by")
    if classifier.num_layers == 1:
        raise RunError(f"{stage.model.path} has a single layer: there is nothing to leave before")
    model = classifier.model
    if isinstance(model, FastBertForSequenceClassification):
        model.config.update({"thresholds": None, "patience": None})  # they were found for the branches as they were
    else:
        model = FastBertForSequenceClassification.from_classifier(
            model,
            branch_width=settings.branch_width,
            branch_heads=settings.branch_heads,
            branch_activation=settings.branch_activation,
            branch_mask=settings.branch_mask,
        )
    return FastBert(model.train(), settings)
