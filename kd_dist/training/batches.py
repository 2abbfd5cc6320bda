"""Decide which rows make step n: a pure function of (seed, step), so a run resumes anywhere from its step number alone.

Positions 0, 1, 2, ... run through the epochs without a break: position p is row `permutation(p mod rows)` of epoch
`p div rows`, and every epoch has a permutation of its own, computed for just the positions asked for. A *window* of
`bucket_steps` steps is sorted by length and cut into steps, so that the rows of a step have similar lengths; the steps
of a window are then put in random order. Within a step, micro-batches follow one another in length, and micro-batch k
goes to rank k mod world size: ranks that work side by side have the same amount of work.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kd_dist.data.permutation import mix, permuted


@dataclass(frozen=True)
class MicroBatch:
    """Micro-batch `index` of step `step`: which rows, and the seed of everything random that happens to them."""

    step: int
    index: int
    rows: np.ndarray
    seed: int


@dataclass
class PreparedBatch:
    """A micro-batch on the CPU, ready to be moved: its tensors, the counts of its terms, and its random seed."""

    tensors: dict[str, Tensor]
    counts: dict[str, float]
    seed: int


class BatchPlan:
    """Decide the rows of every step of a run.

    Args:
        lengths: Tokens of every row, an array that may be memory-mapped.
        global_batch_size: Rows of a step.
        micro_batch_size: Rows of a forward pass.
        bucket_steps: Steps whose rows are sorted by length together.
        seed: Decides the order of rows and the seed of every micro-batch.
    """

    def __init__(
        self, lengths: np.ndarray, *, global_batch_size: int, micro_batch_size: int, bucket_steps: int, seed: int
    ) -> None:
        self._lengths = lengths
        self._global = global_batch_size
        self._micro = micro_batch_size
        self._bucket_steps = bucket_steps
        self._seed = seed
        self._window: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def epoch(self, step: int) -> float:
        """Return the passes over the data after `step` steps."""
        return step * self._global / len(self._lengths)

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """Return the micro-batches of step `step` (the first step is 1) that `rank` runs, in order."""
        rows = self.rows(step).reshape(-1, self._micro)
        return [
            MicroBatch(step, index, rows[index], mix(self._seed, step, index))
            for index in range(rank, len(rows), world_size)
        ]

    def rows(self, step: int) -> np.ndarray:
        """Return all rows of a step, shortest first."""
        window, place = divmod(step - 1, self._bucket_steps)
        if self._window[0] != window:
            self._window = (window, self._open_window(window))
        return self._window[1][place]

    def _open_window(self, window: int) -> np.ndarray:
        """Return (bucket_steps, global_batch_size) rows: similar lengths in each step, steps in random order."""
        size = self._bucket_steps * self._global
        positions = np.arange(window * size, (window + 1) * size, dtype=np.int64)
        epochs, offsets = np.divmod(positions, len(self._lengths))
        rows = np.concatenate(
            [
                permuted(offsets[epochs == epoch], len(self._lengths), mix(self._seed, int(epoch)))
                for epoch in np.unique(epochs)
            ]
        )
        by_length = rows[np.argsort(self._lengths[rows], kind="stable")].reshape(self._bucket_steps, self._global)
        order = permuted(np.arange(self._bucket_steps), self._bucket_steps, mix(self._seed, window, 1))
        return by_length[order]
