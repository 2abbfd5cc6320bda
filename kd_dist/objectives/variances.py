"""The variance of a teacher's hidden states and attention scores, the unit in which terms are relative.

Shapes: B batch, S sequence, D width, N valid positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kd_dist.models.attention import Attention
from kd_dist.objectives.layer_losses import attention_score_count, attention_score_moments


@dataclass
class Variance:
    """A running mean of squares minus the square of the mean, in float64; means are kept for each dimension, if any."""

    count: float = 0.0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add_states(self, hidden_BSD: Tensor, mask_BS: Tensor) -> None:
        """Add the hidden states at valid positions; each dimension has a mean of its own."""
        valid_ND = hidden_BSD[mask_BS.bool()].double()
        self.count += len(valid_ND)
        self.total = self.total + valid_ND.sum(dim=0)
        self.squares = self.squares + valid_ND.square().sum(dim=0)

    def add_scores(self, attention: Attention, mask_BS: Tensor) -> None:
        """Add the scores of all heads between valid positions; they have one mean."""
        total, squares = attention_score_moments(attention, mask_BS)
        self.count += float(attention_score_count(mask_BS, attention.query_BHSK.shape[1], "none"))
        self.total = self.total + total
        self.squares = self.squares + squares

    def value(self) -> float:
        """Return the variance, averaged over dimensions; 1 where nothing varies, so that it can divide."""
        mean, mean_square = (torch.as_tensor(sums) / self.count for sums in (self.total, self.squares))
        return float((mean_square - mean.square()).mean().clamp(min=0.0)) or 1.0
