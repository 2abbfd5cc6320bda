"""Evaluate on held-out rows while training."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from kd_dist.data.permutation import mix
from kd_dist.data.token_rows import TokenRows
from kd_dist.evaluation.scores import num_not_finite, predictions, refuse_not_finite, scores_of
from kd_dist.objectives.base import Objective
from kd_dist.training import distributed
from kd_dist.training.batches import PreparedBatch
from kd_dist.training.forward import Forward
from kd_dist.training.meters import Means, Stopwatch

# What is predicted for a batch, its labels, and how many rows have no finite logits. The logits themselves, of
# thousands of classes, would be too much to send to every rank.
Predicted = tuple[np.ndarray, np.ndarray, int]


class Validator:
    """Score an objective on held-out rows, which are distributed over the ranks.

    Args:
        forward: Runs a batch.
        objective: The objective to evaluate; it is in train mode before and after.
        rows: The held-out rows; there may be none.
        weights: The weight of each loss term; terms of weight 0 are left out.
        micro_batch_size: Rows of a forward pass.
        seed: Seed of everything random about a batch, such as masking.
    """

    def __init__(
        self,
        forward: Forward,
        objective: Objective,
        rows: TokenRows,
        weights: Mapping[str, float],
        *,
        micro_batch_size: int,
        seed: int,
    ) -> None:
        self._forward, self._objective, self._rows = forward, objective, rows
        self._weights = {name: weight for name, weight in sorted(weights.items()) if weight > 0}
        self._micro_batch_size, self._seed = micro_batch_size, seed

    @torch.no_grad()
    def evaluate(self) -> Means:
        """Return the mean of every loss term over the held-out rows, and scores of the predictions. Collective.

        Dropout is off. The names begin with `evaluation/`; without rows, nothing is returned.
        """
        if not len(self._rows):
            return {}
        self._objective.eval()
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, float] = defaultdict(float)
        predicted: list[Predicted] = []
        for batch in self._batches():
            outcome = self._forward(batch, Stopwatch())
            if outcome.logits_BC is not None and self._objective.task is not None:
                logits_BC = outcome.logits_BC.float().cpu().numpy()
                of_batch = predictions(self._objective.task, logits_BC), batch.tensors["labels"].numpy()
                predicted.append((*of_batch, num_not_finite(logits_BC)))
            for term, total in outcome.sums.items():
                sums[term] += float(total)
                counts[term] += batch.counts[term]
        self._objective.train()
        found = self._means(sums, counts) | self._scores(predicted)
        return {f"evaluation/{name}": value for name, value in found.items()}

    def _means(self, sums: Mapping[str, float], counts: Mapping[str, float]) -> Means:
        """Return the sums of all ranks divided by their counts, and their weighted sum as the loss. Collective."""
        names = list(self._weights)
        totals = distributed.sum_over_ranks([sums[n] for n in names] + [counts[n] for n in names])
        pairs = zip(names, totals[: len(names)], totals[len(names) :], strict=True)
        # Few held-out rows may have nothing to predict: no masked token, no label.
        terms = {name: total / count if count else math.nan for name, total, count in pairs}
        return {"loss": sum(self._weights[name] * value for name, value in terms.items())} | terms

    def _scores(self, predicted: list[Predicted]) -> Means:
        """Return the scores of the predictions of all ranks. Collective."""
        gathered = [of_batch for of_a_rank in distributed.gather(predicted) for of_batch in of_a_rank]
        if not gathered or self._objective.task is None:
            return {}
        values, labels, not_finite = zip(*gathered, strict=True)
        refuse_not_finite(sum(not_finite), len(self._rows))
        return scores_of(self._objective.task, np.concatenate(values), np.concatenate(labels))

    def _batches(self) -> Iterator[PreparedBatch]:
        """Yield this rank's held-out rows, shortest first; micro-batch k goes to rank k mod world size."""
        size = self._micro_batch_size
        order = self._rows.lengths[:].argsort(kind="stable")
        for index in range(distributed.rank(), -(-len(order) // size), distributed.world_size()):
            seed = mix(self._seed, 0, index)
            tensors = self._objective.prepare(self._rows.collate(order[index * size : (index + 1) * size]), seed)
            yield PreparedBatch(tensors, self._objective.counts(tensors), seed)
