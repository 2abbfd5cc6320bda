"""The interface of objectives, and how they are found by name.

The objective `x` is `build` in `kd_dist/objectives/x.py`, with its settings in `kd_dist/config/objectives/x.py`; no
other file names it.

Shapes: B batch, C classes.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from kd_dist.config.stages import TrainStage
from kd_dist.config.tasks import Task
from kd_dist.models.teacher import Batch, Encoded, Wanted


class Outcome(NamedTuple):
    """The result of a forward pass.

    Attributes:
        sums: The unweighted sum of each loss term over the batch, scalars with gradients.
        logits_BC: The predictions, if the objective makes any; only evaluation uses them.
    """

    sums: dict[str, Tensor]
    logits_BC: Tensor | None = None


class Objective(nn.Module, ABC):
    """A module that maps a batch and the teacher's outputs to a sum for each loss term, and holds all trained weights.

    The trainer divides each sum by the count of its term over the *global* batch and weights the terms, so an objective
    must neither average nor weight. `student` is the model that is exported.
    """

    student: PreTrainedModel
    task: Task | None = None
    """The task by which predictions are scored; None for an objective that makes none."""

    def wanted(self) -> Wanted | None:
        """Return what the teacher must compute; None if no teacher is needed."""
        return None

    def observe(self, outputs: Iterable[tuple[Batch, Encoded]]) -> None:
        """Measure what the method must know of the teacher before training; buffers hold it, and checkpoints them.

        Args:
            outputs: The first rows in batches, with what the teacher gives for them; computed as they are read.
        """

    def prepare(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Return the batch after everything random, such as masking, on the CPU; `seed` alone decides it."""
        return batch

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, float]:
        """Return the number of summands of each term in this batch, before anything is computed."""

    @abstractmethod
    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        """Return the unweighted sum of each term over this batch, and the predictions, if any."""

    def rate_of(self, name: str) -> float:
        """Return the share of the learning rate that the parameter of this name is trained with."""
        return 1.0

    def save_extras(self, directory: Path) -> None:
        """Save what the method needs beside the exported model."""


def build(stage: TrainStage, tokenizer: Any) -> Objective:
    """Build the objective of a train stage, with its student.

    Raises:
        UserError: The settings, the models and the data do not fit each other.
    """
    return importlib.import_module(f"kd_dist.objectives.{stage.objective.name}").build(stage, tokenizer)
