"""Exit rules: thresholds on uncertainty, patience, or both.

Shapes: N all samples, B those that have not exited before a layer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kd_dist.config.sections.evaluation import Uncertainty


@dataclass(frozen=True)
class ExitRule:
    """Exit below a threshold of the uncertainty, or after several layers in a row that agree.

    Args:
        thresholds: for each layer but the last, the uncertainty below which a sample exits there; 0: none does.
        measure: how uncertainty is measured.
        top_k: classes that `top_k_entropy` looks at.
        patience: exit after so many layers in a row with the same prediction, whatever the uncertainty; None: never.
    """

    thresholds: tuple[float, ...]
    measure: Uncertainty
    top_k: int
    patience: int | None = None

    def needs_branch(self, layer: int) -> bool:
        """Return whether the branch after `layer` (from 1) has to be computed: only if a sample can exit by it."""
        return self.patience is not None or self.thresholds[layer - 1] > 0


class ExitTracker:
    """Decide layer by layer which samples exit by a rule.

    It remembers for how many layers in a row each sample has had the same prediction (patience: Zhou et al. 2020).
    """

    def __init__(self, rule: ExitRule, num_samples: int) -> None:
        self.rule, self.num_samples = rule, num_samples
        self._predicted: Tensor | None = None
        self._agreeing_N: Tensor | None = None

    def exits(self, layer: int, numbers_B: Tensor, uncertainty_B: Tensor, predicted: Tensor) -> Tensor:
        """Return which samples exit after a layer.

        Args:
            layer: from 1.
            numbers_B: the numbers of the samples that the layer has seen.
            uncertainty_B: from 0 to 1; a sample with NaN never exits.
            predicted: (B) classes, or (B, C) which labels.

        Returns:
            (B) booleans. A threshold of 1 lets every sample exit, those with an uncertainty of 1 included.
        """
        threshold = self.rule.thresholds[layer - 1]
        exits_B = (uncertainty_B < threshold) | (threshold >= 1)
        if self.rule.patience is not None:
            exits_B |= self._count_agreeing(numbers_B, predicted) >= self.rule.patience
        return exits_B & ~uncertainty_B.isnan()

    def _count_agreeing(self, numbers_B: Tensor, predicted: Tensor) -> Tensor:
        """Return (B) for how many layers in a row, this one included, the prediction has been the same."""
        if self._predicted is None or self._agreeing_N is None:
            self._predicted = predicted.new_zeros(self.num_samples, *predicted.shape[1:])
            self._agreeing_N = torch.zeros(self.num_samples, dtype=torch.long, device=predicted.device)
        same_B = (self._predicted[numbers_B] == predicted).reshape(len(predicted), -1).all(dim=1)
        self._agreeing_N[numbers_B] = torch.where(same_B, self._agreeing_N[numbers_B] + 1, 1)
        self._predicted[numbers_B] = predicted
        return self._agreeing_N[numbers_B]
