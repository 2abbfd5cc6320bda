"""Groups of rows that go through the layers together.

Shapes: B rows of a group, S its longest row, D width; M rows of all groups.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

GROUP_COST_CPU, GROUP_COST_GPU = 64, 4096
"""What one more group costs a layer, in tokens: more calls, and a small group does not fill a GPU."""


@dataclass(frozen=True)
class Group:
    """Rows that go through the layers together, no wider than the longest of them; padding stands at the end of rows.

    Args:
        numbers_B: the numbers of the rows in the output, on the CPU.
        lengths_B: their tokens, on the CPU.
        hidden_BSD: their states.
        mask_BS: false at padding; None where all rows have the same length.
    """

    numbers_B: np.ndarray
    lengths_B: np.ndarray
    hidden_BSD: Tensor
    mask_BS: Tensor | None

    @classmethod
    def of(cls, numbers_B: np.ndarray, lengths_B: np.ndarray, hidden_BSD: Tensor) -> Self:
        """Return a group of rows whose states may be padded to more than the longest of them."""
        longest, mask_BS = int(lengths_B.max()), None
        if lengths_B.min() < longest:
            lengths_B1 = torch.from_numpy(lengths_B)[:, None].to(hidden_BSD.device)
            mask_BS = torch.arange(longest, device=hidden_BSD.device) < lengths_B1
        return cls(numbers_B, lengths_B, hidden_BSD[:, :longest], mask_BS)

    def __len__(self) -> int:
        return len(self.numbers_B)


def regroup(groups: Sequence[Group], stays_M: np.ndarray, size: int) -> Iterator[Group]:
    """Put the rows that have not exited into new groups, the longest first.

    Args:
        groups: all groups after a layer.
        stays_M: which of their rows have not exited.
        size: rows of a new group, at most.

    Returns:
        Groups whose padding costs less than one more group would.
    """
    lengths_M = np.concatenate([group.lengths_B for group in groups])
    owners_M = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    places_M = np.concatenate([np.arange(len(group)) for group in groups])
    staying = np.flatnonzero(stays_M)
    staying = staying[np.argsort(-lengths_M[staying], kind="stable")]
    group_cost = GROUP_COST_CPU if groups[0].hidden_BSD.device.type == "cpu" else GROUP_COST_GPU
    for rows in _cut_by_length(staying, lengths_M[staying], size, group_cost):
        rows = rows[np.argsort(owners_M[rows], kind="stable")]
        pieces = [(groups[owner], places_M[rows[owners_M[rows] == owner]]) for owner in np.unique(owners_M[rows])]
        yield _joined(pieces)


def _cut_by_length(rows_M: np.ndarray, lengths_M: np.ndarray, size: int, group_cost: int) -> Iterator[np.ndarray]:
    """Cut rows, the longest first, into runs of up to `size` whose padding costs less than a new run would."""
    start = padding = 0
    for end, length in enumerate(lengths_M.tolist()):
        padding += lengths_M[start] - length
        if end - start == size or padding > group_cost:
            yield rows_M[start:end]
            start, padding = end, 0
    if len(rows_M):
        yield rows_M[start:]


def _joined(pieces: Sequence[tuple[Group, np.ndarray]]) -> Group:
    """Return one group of some rows of other groups."""
    numbers_B = np.concatenate([group.numbers_B[places] for group, places in pieces])
    lengths_B = np.concatenate([group.lengths_B[places] for group, places in pieces])
    longest, hidden = int(lengths_B.max()), []
    for group, places in pieces:
        hidden_BSD = group.hidden_BSD[:, :longest]
        if len(places) < len(group):
            hidden_BSD = hidden_BSD.index_select(0, torch.from_numpy(places).to(hidden_BSD.device))
        hidden.append(F.pad(hidden_BSD, (0, 0, 0, longest - hidden_BSD.shape[1])))
    return Group.of(numbers_B, lengths_B, torch.cat(hidden) if len(hidden) > 1 else hidden[0])
