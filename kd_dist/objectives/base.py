"""One file per method. An objective owns everything that learns and says what it needs from the teacher.

A method named `x` in the configuration is `build` in `kd_dist/objectives/x.py`; nothing else knows of it.
"""

import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from kd_dist.config.stages import TrainStage
from kd_dist.models.teacher import Batch, Encoded, Wanted

PREDICTION = "logits_BC"


class Objective(nn.Module, ABC):
    """Maps a batch and the teacher's outputs to sums, one for each loss term.

    The trainer divides each sum by the term's count over the *global* batch and weights the terms, so an objective must
    neither average nor weight. `student` is what gets exported.
    """

    student: PreTrainedModel

    def wanted(self) -> Wanted | None:
        """What the teacher has to compute; None when there is no teacher."""
        return None

    def prepare(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Whatever is random about a batch, on the CPU, decided by `seed` alone."""
        return batch

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, float]:
        """Summands of each term in this batch, known before anything is computed."""

    @abstractmethod
    def forward(self, batch: Batch, teacher: Encoded | None) -> dict[str, Tensor]:
        """The sum of each term over this batch, unweighted, with autograd history.

        In eval mode an objective that predicts adds its logits (B, C) under the name PREDICTION.
        """

    def scores(self, logits_BC: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """How good predictions are: metrics by name, for an objective that predicts."""
        raise NotImplementedError(f"{type(self).__name__} predicts nothing")

    def save_extras(self, directory: Path) -> None:
        """What belongs to the method but not to the exported model."""
        del directory


def build(stage: TrainStage, tokenizer: Any) -> Objective:
    """The objective that the stage's configuration names, with a freshly initialised student."""
    return importlib.import_module(f"kd_dist.objectives.{stage.objective.name}").build(stage, tokenizer)
