"""When samples exit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kd_dist.config.sections.evaluation import Uncertainty


@dataclass(frozen=True)
class ExitRule:
    """When a sample leaves: below the threshold of its layer, or after `patience` layers in a row that agree."""

    thresholds: tuple[float, ...]
    measure: Uncertainty
    top_k: int
    patience: int | None = None

    def asks(self, layer: int) -> bool:
        """Whether anything can leave after `layer` (from 1); if not, its branch is not needed."""
        return self.patience is not None or self.thresholds[layer - 1] > 0


class Leaving:
    """Who leaves by a rule, asked layer by layer; it remembers how many layers in a row have said the same of each row
    (patience: Zhou et al. 2020)."""

    def __init__(self, rule: ExitRule, num_rows: int) -> None:
        self.rule, self.num_rows = rule, num_rows
        self.last: Tensor | None = None
        self.times_N: Tensor | None = None

    def after(self, layer: int, numbers_B: Tensor, doubt_B: Tensor, decided: Tensor) -> Tensor:
        """(B) who leaves after `layer`; never one whose uncertainty is no number.

        An uncertainty of 1 is below no speed, yet at speed 1 all are to leave.
        """
        threshold = self.rule.thresholds[layer - 1]
        leaves_B = (doubt_B < threshold) | (threshold >= 1)
        if self.rule.patience is not None:
            leaves_B |= self._agreeing(numbers_B, decided) >= self.rule.patience
        return leaves_B & ~doubt_B.isnan()

    def _agreeing(self, numbers_B: Tensor, decided: Tensor) -> Tensor:
        """(B) how many layers in a row, this one included, decided alike."""
        if self.last is None or self.times_N is None:
            self.last = decided.new_zeros(self.num_rows, *decided.shape[1:])
            self.times_N = torch.zeros(self.num_rows, dtype=torch.long, device=decided.device)
        same_B = (self.last[numbers_B] == decided).reshape(len(decided), -1).all(dim=1)
        self.times_N[numbers_B] = torch.where(same_B, self.times_N[numbers_B] + 1, 1)
        self.last[numbers_B] = decided
        return self.times_N[numbers_B]
