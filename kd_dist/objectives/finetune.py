"""Learning from labels: a classifier on top of an encoder, without a teacher.

Shapes: B batch, S sequence, C classes.
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
from kd_dist.models.students import build_classifier, output_layer
from kd_dist.models.teacher import Batch, Encoded, model_inputs
from kd_dist.objectives.base import Objective, Outcome
from kd_dist.objectives.losses import label_count, label_error


class Finetune(Objective):
    """Error against the labels: cross-entropy, binary cross-entropy, or squared error, as the task wants."""

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
    """The classifier that a stage trains; a new head for several labels a text starts at how often each label occurs.

    From one half, saying no to everything is learnt first, by all weights at once and whatever the text: an encoder may
    lose what tells texts apart before it learns any label (Lin et al. 2017, section 3.3, do the same for rare classes).
    """
    model = build_classifier(stage, tokenizer, labels.model_settings())
    head = output_layer(model)
    if labels.task == "multi_label" and not head.bias.any():  # a trained head is nowhere exactly zero
        with torch.no_grad():
            head.bias.copy_(torch.from_numpy(PreparedRows(Path(stage.data.tokens)).label_shares()).logit())
    return model


def build(stage: TrainStage, tokenizer: Any) -> Finetune:
    assert isinstance(stage.objective, FinetuneObjective)
    rows = PreparedRows(Path(stage.data.tokens))
    labels = rows.labels
    weights_C = None
    if stage.objective.class_weights == "balanced":
        if labels.task != "single_label":
            raise RunError(f"objective.class_weights=balanced weighs single labels, but the task is {labels.task}")
        weights_C = torch.from_numpy(rows.balanced_class_weights()).float()
    return Finetune(build_labelled_classifier(stage, tokenizer, labels), labels, weights_C)
