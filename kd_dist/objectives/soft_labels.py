"""Prediction distillation (Hinton et al. 2015; TinyBERT's equation 10), optionally together with labels.

The teacher's logits come from a teacher that runs, or with the batch where they were stored on disk before.
Shapes: B batch, C classes.
"""

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.stages import TrainStage
from kd_dist.config.tasks import Task
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.models.inputs import model_inputs
from kd_dist.models.teacher import Batch, Encoded, Wanted
from kd_dist.objectives.base import Objective, Outcome
from kd_dist.objectives.finetune import build_labelled_classifier
from kd_dist.objectives.prediction_losses import (
    label_error,
    logit_error,
    soft_label_count,
    soft_label_error,
)


class SoftLabels(Objective):
    """Errors against the teacher's prediction, the label and the teacher's logits; terms of weight 0 are left out.

    `teacher_runs` tells whether the teacher's logits come from a running teacher instead of the batch.
    """

    def __init__(
        self, student: PreTrainedModel, labels: Labels, settings: SoftLabelsObjective, *, teacher_runs: bool
    ) -> None:
        super().__init__()
        self.student = student
        self.task: Task = labels.task
        self._num_labels, self._settings, self._teacher_runs = labels.num_labels, settings, teacher_runs
        self._terms = {name for name, weight in settings.weights().items() if weight > 0}

    def wanted(self) -> Wanted | None:
        return Wanted(logits=True) if self._teacher_runs and self._terms - {"hard"} else None

    def counts(self, batch: Batch) -> dict[str, float]:
        size, num_labels, task = len(batch["input_ids"]), self._num_labels, self.task
        counts = {
            "soft": soft_label_count(size, num_labels, task, self._settings.compat),
            # Of all rows: otherwise the few that have a label would be learnt by heart beside many that have none.
            "hard": batch["labels"].numel(),
            "logits": size * num_labels,
        }
        return {term: float(counts[term]) for term in sorted(self._terms)}

    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        logits_BC = self.student(**model_inputs(self.student, batch)).logits
        task, settings = self.task, self._settings
        sums: dict[str, Tensor] = {}
        if "hard" in self._terms:
            sums["hard"] = label_error(logits_BC, batch["labels"], task)
        if "logits" in self._terms:
            sums["logits"] = logit_error(logits_BC, _target(batch, teacher))
        if "soft" in self._terms:
            sums["soft"] = soft_label_error(
                logits_BC, _target(batch, teacher), task, temperature=settings.temperature, compat=settings.compat
            )
        return Outcome(sums, logits_BC)


def _target(batch: Batch, teacher: Encoded | None) -> Tensor:
    """Return the teacher's logits, (B, C), from the teacher or from the batch."""
    if teacher is None:
        return batch["teacher_logits"]
    assert teacher.logits is not None
    return teacher.logits


def build(stage: TrainStage, tokenizer: Any) -> SoftLabels:
    """Build the objective with its classifier.

    Raises:
        RunError: The rows have no labels.
    """
    assert isinstance(stage.objective, SoftLabelsObjective)
    labels = PreparedRows(Path(stage.data.tokens)).labels
    student = build_labelled_classifier(stage, tokenizer, labels)
    return SoftLabels(student, labels, stage.objective, teacher_runs=stage.data.teacher_outputs is None)
