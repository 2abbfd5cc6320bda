"""Multiply-accumulates of a forward pass, row by row: by its length and, with early exit, the layer it exits at.

Shapes: N rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.backends import cudnn, mkldnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kd_dist.models.classifier import Classifier
from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.models.exit_rules import ExitRule

LENGTHS = (4, 6, 8)  # a polynomial of degree two goes through three points


@dataclass(frozen=True)
class Operations:
    """The operations of each part of a model, as polynomials of the length: (3,) coefficients, the highest power first.

    Attention makes the cost of a layer quadratic in the length, exactly; batches and padding are not counted.

    Args:
        base: what every row costs: the whole model, or the embeddings of a model with branches.
        layer: one layer.
        branch: one branch.
        head: the backbone's own head.
        num_layers: 0 for a model without branches.
    """

    base: np.ndarray
    layer: np.ndarray
    branch: np.ndarray
    head: np.ndarray
    num_layers: int

    @classmethod
    def of(cls, classifier: Classifier) -> "Operations":
        """Count the parts of a model at a few lengths."""
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
        return cls(base=embedding, **parts, num_layers=len(layers.layers))

    def per_row(
        self, lengths_N: np.ndarray, layers_N: np.ndarray | None = None, rule: ExitRule | None = None
    ) -> np.ndarray:
        """Return the (N) operations of rows.

        Args:
            lengths_N: in tokens.
            layers_N: the layer, from 1, at which each row exited, of a model with branches.
            rule: the rule that they exited by, which says which branches were computed.
        """
        total_N = np.polyval(self.base, lengths_N)
        if layers_N is None or rule is None:
            return total_N
        computed = [rule.needs_branch(layer) for layer in range(1, self.num_layers)]
        branches_N = np.cumsum([0, *computed, 0])[layers_N]  # the last layer has no branch of its own
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
    """Fit the (3,) coefficients of a module's cost by the length, the highest power first."""

    def cost(length: int) -> int:
        ids_1S = torch.full((1, length), classifier.tokenizer.unk_token_id or 0, device=classifier.model.device)
        return count_operations(module, {"input_ids": ids_1S})

    return np.polyfit(LENGTHS, [cost(length) for length in LENGTHS], 2)


@torch.no_grad()
def count_operations(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Count the multiply-accumulates of one forward pass: those of all matrix products, attention included.

    torch counts floating-point operations, two for each multiply-accumulate. It does not know the fused attention of
    CPUs, nor the recurrent layers of oneDNN and cuDNN, so these run as the plain matrix products that they fuse.

    Args:
        model: called as `model(**inputs)`.
        inputs: tensors on the model's device.
    """
    counter = FlopCounterMode(display=False)
    without_mkldnn = mkldnn.flags(enabled=False, allow_tf32=None)  # None: any value is warned of where there is no XPU
    with counter, sdpa_kernel(SDPBackend.MATH), without_mkldnn, cudnn.flags(enabled=False):
        model(**inputs)
    return counter.get_total_flops() // 2
