"""Choose the rows of every step as a pure function of (seed, step), so that a run can resume from a step number alone.

Positions 0, 1, 2, ... run through all epochs: position p is row `permutation(p mod rows)` of epoch `p div rows`. Every
epoch has its own permutation, computed only for the positions needed. A *window* of `bucket_steps` steps is sorted by
length and cut into steps, so that the rows of a step have similar lengths; then the steps of the window are shuffled.
Within a step, micro-batches are ordered by length, and micro-batch k goes to rank k mod world size, so that ranks
process batches of similar size at the same time.

Shapes: W steps of a window, G rows of a global batch.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kd_dist.data.permutation import mix, permuted


@dataclass(frozen=True)
class MicroBatch:
    """The rows of micro-batch `index` of step `step`, and the seed of everything random about them."""

    step: int
    index: int
    rows: np.ndarray
    seed: int


@dataclass
class PreparedBatch:
    """A micro-batch on the CPU: its tensors, the count of each loss term, and its random seed."""

    tensors: dict[str, Tensor]
    counts: dict[str, float]
    seed: int


class BatchPlan:
    """The rows of every step of a run.

    Args:
        lengths: Tokens of every row; may be memory-mapped.
        global_batch_size: Rows of a step.
        micro_batch_size: Rows of a forward pass.
        bucket_steps: Steps whose rows are sorted by length together.
        seed: Seed of the order of rows, and of the seeds of micro-batches.
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
        """Return the number of passes over the data after `step` steps."""
        return step * self._global / len(self._lengths)

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """Return the micro-batches of step `step` (the first step is 1) that `rank` runs, in order."""
        rows = self.rows(step).reshape(-1, self._micro)
        return [
            MicroBatch(step, index, rows[index], mix(self._seed, step, index))
            for index in range(rank, len(rows), world_size)
        ]

    def rows(self, step: int) -> np.ndarray:
        """Return all rows of a step, (G,), shortest first."""
        window, place = divmod(step - 1, self._bucket_steps)
        if self._window[0] != window:
            self._window = (window, self._open_window(window))
        return self._window[1][place]

    def _open_window(self, window: int) -> np.ndarray:
        """Return the rows of a window, (W, G): similar lengths within a step, steps in random order."""
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
