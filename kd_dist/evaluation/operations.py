"""Multiply-accumulates of a forward pass, row by row: by its length and, with early exit, by the layer it left at.

Shapes: N rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from deepspeed.profiling.flops_profiler import get_model_profile
from torch import Tensor, nn

from kd_dist.models.classifier import Classifier
from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.models.exit_rules import ExitRule

LENGTHS = (4, 6, 8)  # a polynomial of degree two goes through three points


@dataclass(frozen=True)
class Operations:
    """What each part of a model costs, as polynomials of the length: (3,) coefficients, the highest first.

    Attention makes the cost of a layer quadratic in the length, exactly; batches and padding are not in it. A model
    without branches is all `whole`; of one with branches, that is the embeddings.
    """

    whole: np.ndarray
    layer: np.ndarray
    branch: np.ndarray
    head: np.ndarray
    num_layers: int

    @classmethod
    def of(cls, classifier: Classifier) -> "Operations":
        model, nothing = classifier.model, np.zeros(3)
        if not isinstance(model, FastBertForSequenceClassification):
            return cls(_polynomial(model, classifier), nothing, nothing, nothing, 0)
        layers = model.layers
        costs = {
            "layer": lambda hidden_BSD: layers.run(1, hidden_BSD, None),
            "branch": lambda hidden_BSD: model.branches[0](hidden_BSD, None) if len(model.branches) else None,
            "head": lambda hidden_BSD: layers.head(hidden_BSD),
        }
        embedding = _polynomial(_Part(model, lambda _: None), classifier)
        parts = {name: _polynomial(_Part(model, part), classifier) - embedding for name, part in costs.items()}
        return cls(whole=embedding, **parts, num_layers=len(layers.layers))

    def per_row(
        self, lengths_N: np.ndarray, layers_N: np.ndarray | None = None, rule: ExitRule | None = None
    ) -> np.ndarray:
        """(N) operations of rows of these lengths; with branches, of those that left by `rule` after these layers
        (from 1)."""
        total_N = np.polyval(self.whole, lengths_N)
        if layers_N is None or rule is None:
            return total_N
        asked = [rule.asks(layer) for layer in range(1, self.num_layers)]
        branches_N = np.cumsum([0, *asked, 0])[layers_N]  # the last layer has no branch of its own
        total_N = total_N + layers_N * np.polyval(self.layer, lengths_N)
        total_N += branches_N * np.polyval(self.branch, lengths_N)
        return total_N + (layers_N == self.num_layers) * np.polyval(self.head, lengths_N)


class _Part(nn.Module):
    """The embeddings of a model, and one part of it after them."""

    def __init__(self, model: FastBertForSequenceClassification, part: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model, self.part = model, part

    def forward(self, input_ids: Tensor) -> Any:
        hidden_BSD = self.model.layers.embed({"input_ids": input_ids})
        return self.part(hidden_BSD)


def _polynomial(module: nn.Module, classifier: Classifier) -> np.ndarray:
    from kd_dist.evaluation.operations import count_operations  # imports deepspeed, which takes seconds

    def cost(length: int) -> int:
        ids = torch.full((1, length), classifier.tokenizer.unk_token_id or 0, device=classifier.model.device)
        return count_operations(module, {"input_ids": ids})

    return np.polyfit(LENGTHS, [cost(length) for length in LENGTHS], 2)


def count_operations(model: nn.Module, inputs: dict[str, Tensor]) -> int:
    """Multiply-accumulates of one forward pass, fused attention included (torch's own counter misses that on CPUs)."""
    _, operations, _ = get_model_profile(model, kwargs=inputs, print_profile=False, as_string=False)
    return int(operations)
