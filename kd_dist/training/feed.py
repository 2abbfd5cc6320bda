"""Prepare the rows of each step ahead of it in a thread, and sum their counts over the ranks meanwhile.

A step then begins without waiting for its rows or for another rank.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from kd_dist.data.token_rows import TokenRows
from kd_dist.objectives.base import Objective
from kd_dist.training import distributed
from kd_dist.training.batches import BatchPlan, PreparedBatch

AHEAD = 2
"""Steps that are prepared in advance: the next one, whose counts are being summed, and the one after it."""


@dataclass(frozen=True)
class StepRows:
    """The rows of a step.

    Attributes:
        micro_batches: those of this rank.
        global_counts: the counts of the global batch, 1 in place of 0, on their way from the other ranks.
    """

    micro_batches: list[PreparedBatch]
    global_counts: distributed.PendingSums

    def counts(self) -> dict[str, float]:
        """Return the counts of the global batch by loss term."""
        names = sorted(self.micro_batches[0].counts)
        totals = self.global_counts.wait()
        return {name: total if total > 0 else 1.0 for name, total in zip(names, totals, strict=True)}


class Feed:
    """The rows of this rank for one step after another.

    Args:
        rows: the training rows.
        plan: which of them each step has.
        objective: what prepares and counts them.
    """

    def __init__(self, rows: TokenRows, plan: BatchPlan, objective: Objective) -> None:
        self._rows, self._plan, self._objective = rows, plan, objective
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")
        self._waited = 0.0

    def steps(self, first: int, last: int) -> Iterator[StepRows]:
        """Yield the rows of the steps from `first` to `last`. Collective: all ranks must end at the same step."""
        steps = range(first, last + 1)
        prepared = deque(self._thread.submit(self._prepare, step) for step in steps[:AHEAD])
        following = self._summing(prepared)
        for step in steps:
            current, following = following, self._summing(prepared)
            assert current is not None
            if step + AHEAD in steps:
                prepared.append(self._thread.submit(self._prepare, step + AHEAD))
            yield current

    def read_wait(self) -> float:
        """Return for how many seconds rows were waited for since the last reading."""
        seconds, self._waited = self._waited, 0.0
        return seconds

    def close(self) -> None:
        """Release the thread."""
        self._thread.shutdown()

    def _summing(self, prepared: deque[Future[list[PreparedBatch]]]) -> StepRows | None:
        """Wait for the next rows, if any are left, and begin to sum their counts over the ranks. Collective."""
        if not prepared:
            return None
        started = time.perf_counter()
        batches = prepared.popleft().result()
        self._waited += time.perf_counter() - started
        own = [sum(batch.counts[name] for batch in batches) for name in sorted(batches[0].counts)]
        return StepRows(batches, distributed.begin_sums(own))

    def _prepare(self, step: int) -> list[PreparedBatch]:
        prepared = []
        for micro_batch in self._plan.micro_batches(step, distributed.rank(), distributed.world_size()):
            tensors = self._objective.prepare(self._rows.collate(micro_batch.rows), micro_batch.seed)
            counts = self._objective.counts(tensors)
            if torch.cuda.is_available():  # for an asynchronous copy to the GPU
                tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
            prepared.append(PreparedBatch(tensors, counts, micro_batch.seed))
        return prepared
