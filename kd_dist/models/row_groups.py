"""Rows that go through the layers together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

GROUP_COST_CPU, GROUP_COST_GPU = 64, 4096
"""What one more group of rows costs a layer, in tokens: so many calls; and a GPU is not filled by a small one."""


@dataclass(frozen=True)
class Group:
    """Rows that go through the layers together, no wider than the longest of them; padding stands at the end of rows.

    `numbers_B` are their places in the answer and `lengths_B` their tokens, both on the CPU; `mask_BS` is None where
    all are of one length.
    """

    numbers_B: np.ndarray
    lengths_B: np.ndarray
    hidden_BSD: Tensor
    mask_BS: Tensor | None

    @classmethod
    def of(cls, numbers_B: np.ndarray, lengths_B: np.ndarray, hidden_BSD: Tensor) -> Self:
        longest, mask_BS = int(lengths_B.max()), None
        if lengths_B.min() < longest:
            lengths_B1 = torch.from_numpy(lengths_B)[:, None].to(hidden_BSD.device)
            mask_BS = torch.arange(longest, device=hidden_BSD.device) < lengths_B1
        return cls(numbers_B, lengths_B, hidden_BSD[:, :longest], mask_BS)

    def __len__(self) -> int:
        return len(self.numbers_B)


def regroup(groups: Sequence[Group], stays_M: np.ndarray, size: int) -> Iterator[Group]:
    """The rows of all groups that stay, the longest first, in new groups."""
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
    """Runs of up to `size` rows, which come longest first; a run ends before its padding costs more than a new one."""
    start = padding = 0
    for end, length in enumerate(lengths_M.tolist()):
        padding += lengths_M[start] - length
        if end - start == size or padding > group_cost:
            yield rows_M[start:end]
            start, padding = end, 0
    if len(rows_M):
        yield rows_M[start:]


def _joined(pieces: Sequence[tuple[Group, np.ndarray]]) -> Group:
    """One group of some rows of others."""
    numbers_B = np.concatenate([group.numbers_B[places] for group, places in pieces])
    lengths_B = np.concatenate([group.lengths_B[places] for group, places in pieces])
    longest, hidden = int(lengths_B.max()), []
    for group, places in pieces:
        hidden_BSD = group.hidden_BSD[:, :longest]
        if len(places) < len(group):
            hidden_BSD = hidden_BSD.index_select(0, torch.from_numpy(places).to(hidden_BSD.device))
        hidden.append(F.pad(hidden_BSD, (0, 0, 0, longest - hidden_BSD.shape[1])))
    return Group.of(numbers_B, lengths_B, torch.cat(hidden) if len(hidden) > 1 else hidden[0])
