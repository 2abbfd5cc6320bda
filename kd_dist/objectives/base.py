"""The interface of an objective, and how one is found by its name.

The method that is called `x` in the configuration is `build` in `kd_dist/objectives/x.py`, with its settings in
`kd_dist/config/objectives/x.py`; nothing else knows of it.

Shapes: B batch, C classes.
"""

import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from kd_dist.config.stages import TrainStage
from kd_dist.config.tasks import Task
from kd_dist.models.teacher import Batch, Encoded, Wanted


class Outcome(NamedTuple):
    """What an objective makes of a batch.

    Attributes:
        sums: The unweighted sum of each loss term over the batch, scalars with autograd history.
        logits_BC: The predictions, of an objective that predicts; they play no part in training.
    """

    sums: dict[str, Tensor]
    logits_BC: Tensor | None = None


class Objective(nn.Module, ABC):
    """Map a batch and the teacher's outputs to sums, one for each loss term; own everything that learns.

    The trainer divides each sum by the term's count over the *global* batch and weights the terms, so an objective must
    neither average nor weight. `student` is what gets exported.
    """

    student: PreTrainedModel
    task: Task | None = None
    """What the predictions are scored as; None for an objective that predicts nothing."""

    def wanted(self) -> Wanted | None:
        """Return what the teacher has to compute; None when there is no teacher."""
        return None

    def prepare(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Make whatever is random about a batch, on the CPU, decided by `seed` alone."""
        return batch

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, float]:
        """Return the number of summands of each term in this batch, known before anything is computed."""

    @abstractmethod
    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        """Return the sum of each term over this batch, unweighted, and the predictions if there are any."""

    def save_extras(self, directory: Path) -> None:
        """Save what belongs to the method but not to the exported model."""


def build(stage: TrainStage, tokenizer: Any) -> Objective:
    """Build the objective that the stage's configuration names, with a freshly initialized student."""
    return importlib.import_module(f"kd_dist.objectives.{stage.objective.name}").build(stage, tokenizer)
