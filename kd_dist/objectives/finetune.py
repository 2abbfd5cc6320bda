"""Learning from labels: a classifier on top of an encoder, without a teacher.

Shapes: B batch, S sequence, C classes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from kd_dist.errors import RunError
from kd_dist.losses import label_count, label_error
from kd_dist.metrics import Task, scores
from kd_dist.models import Batch, Encoded, build_classifier, model_inputs
from kd_dist.objectives import PREDICTION, Objective
from kd_dist.sections import FinetuneObjective
from kd_dist.stages import TrainStage


@dataclass(frozen=True)
class Labels:
    """What prepared rows are labelled with."""

    task: Task
    label2id: dict[str, int]
    num_labels: int

    @classmethod
    def load(cls, tokens: Path) -> "Labels":
        """
        Raises:
            RunError: the rows carry no labels.
        """
        statistics = json.loads((tokens / "statistics.json").read_text(encoding="utf-8"))
        if "task" not in statistics:
            raise RunError(f"{tokens} holds rows without labels: prepare them with a `labelled` stage")
        label2id = json.loads((tokens / "label2id.json").read_text(encoding="utf-8"))
        return cls(statistics["task"], label2id, statistics["num_labels"])

    def model_settings(self) -> dict[str, Any]:
        """What transformers' configuration calls it."""
        settings: dict[str, Any] = {"problem_type": f"{self.task}_classification", "num_labels": self.num_labels}
        if self.task == "regression":
            return settings | {"problem_type": "regression"}
        return settings | {"label2id": self.label2id, "id2label": {i: name for name, i in self.label2id.items()}}


class Finetune(Objective):
    """Error against the labels: cross-entropy, binary cross-entropy, or squared error, as the task wants."""

    class_weights_C: Tensor | None

    def __init__(self, student: PreTrainedModel, labels: Labels, class_weights_C: Tensor | None) -> None:
        super().__init__()
        self.student = student
        self._task = labels.task
        self.register_buffer("class_weights_C", class_weights_C, persistent=False)
        self._weights_on_cpu = class_weights_C

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"label": float(label_count(batch["labels"], self._task, self._weights_on_cpu))}

    def forward(self, batch: Batch, teacher: Encoded | None) -> dict[str, Tensor]:
        logits_BC = self.student(**model_inputs(self.student, batch)).logits
        sums = {"label": label_error(logits_BC, batch["labels"], self._task, self.class_weights_C)}
        return sums if self.training else sums | {PREDICTION: logits_BC}

    def scores(self, logits_BC: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return scores(self._task, logits_BC, labels)


def balanced_class_weights(tokens: Path, num_labels: int) -> Tensor:
    """(C) weights in inverse proportion to the rows of a class; their mean over the rows is 1."""
    from datasets import load_from_disk

    labels = load_from_disk(str(tokens / "train")).with_format("numpy")["labels"][:]
    counts_C = np.bincount(labels, minlength=num_labels)
    return torch.from_numpy(counts_C.sum() / (num_labels * np.maximum(counts_C, 1))).float()


def build(stage: TrainStage, tokenizer: Any) -> Finetune:
    assert isinstance(stage.objective, FinetuneObjective)
    tokens = Path(stage.data.tokens)
    labels = Labels.load(tokens)
    weights_C = None
    if stage.objective.class_weights == "balanced":
        if labels.task != "single_label":
            raise RunError(f"objective.class_weights=balanced weighs single labels, but the task is {labels.task}")
        weights_C = balanced_class_weights(tokens, labels.num_labels)
    return Finetune(build_classifier(stage, tokenizer, labels.model_settings()), labels, weights_C)
