"""Training on labels: a classifier on top of an encoder, without a teacher.

Shapes: B batch, C classes.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.stages import TrainStage
from kd_dist.config.tasks import Task
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.errors import RunError
from kd_dist.models.inputs import model_inputs
from kd_dist.models.students import build_classifier, output_layer
from kd_dist.models.teacher import Batch, Encoded
from kd_dist.objectives.base import Objective, Outcome
from kd_dist.objectives.prediction_losses import label_count, label_error


class Finetune(Objective):
    """The error against the labels: cross-entropy, binary cross-entropy or squared error, depending on the task."""

    class_weights_C: Tensor | None

    def __init__(self, student: PreTrainedModel, labels: Labels, class_weights_C: Tensor | None) -> None:
        super().__init__()
        self.student = student
        self.task: Task = labels.task
        self.register_buffer("class_weights_C", class_weights_C, persistent=False)
        self._weights_on_cpu = class_weights_C

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"label": float(label_count(batch["labels"], self.task, self._weights_on_cpu))}

    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        logits_BC = self.student(**model_inputs(self.student, batch)).logits
        error = label_error(logits_BC, batch["labels"], self.task, self.class_weights_C)
        return Outcome({"label": error}, logits_BC)


def build_labelled_classifier(stage: TrainStage, tokenizer: Any, labels: Labels) -> PreTrainedModel:
    """Build the classifier that a stage trains; the bias of a new multi-label head starts at the label frequencies.

    From a bias of 0 (probability one half), all weights first learn to reject every label whatever the text, and an
    encoder may lose what distinguishes texts before it learns any label (Lin et al. 2017, section 3.3, initialize rare
    classes in the same way).
    """
    model = build_classifier(stage, tokenizer, labels.model_settings())
    head = output_layer(model)
    if (
        labels.task == "multi_label" and head.bias is not None and not head.bias.any()
    ):  # the bias of a trained head is not exactly zero
        with torch.no_grad():
            head.bias.copy_(torch.from_numpy(PreparedRows(Path(stage.data.tokens)).label_shares()).logit())
    return model


def build(stage: TrainStage, tokenizer: Any) -> Finetune:
    """Build the objective with its classifier and class weights.

    Raises:
        RunError: The rows have no labels, or class weights are asked for but the task is not single_label.
    """
    assert isinstance(stage.objective, FinetuneObjective)
    rows = PreparedRows(Path(stage.data.tokens))
    labels = rows.labels
    weights_C = None
    if stage.objective.class_weights == "balanced":
        if labels.task != "single_label":
            raise RunError(f"objective.class_weights=balanced is for single_label, but the task is {labels.task}")
        weights_C = torch.from_numpy(rows.balanced_class_weights()).float()
    return Finetune(build_labelled_classifier(stage, tokenizer, labels), labels, weights_C)
