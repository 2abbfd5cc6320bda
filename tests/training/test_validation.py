"""Validation takes means over all held-out rows, whatever the number of ranks and the micro-batch."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import LabelledWorld
from tests.ranks import run_ranks


def evaluate(tokens: str, micro_batch_sizes: list[int]) -> list[dict[str, Any]]:
    """Evaluate a toy on the held-out rows with each micro-batch size, and on no rows; return what rank 0 gets."""
    import torch

    from kd_dist.data.token_rows import TokenRows
    from kd_dist.objectives.base import Objective, Outcome
    from kd_dist.training import engine
    from kd_dist.training.forward import Forward
    from kd_dist.training.validation import Validator

    class Toy(Objective):
        """Predicts the first class of a text of even length; dropout would change the loss."""

        task = "single_label"

        def __init__(self) -> None:
            super().__init__()
            self.dropout = torch.nn.Dropout(0.5)

        def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
            tokens, texts = float(batch["attention_mask"].sum()), float(len(batch["labels"]))
            return {"tokens": tokens, "texts": texts, "nothing": 0.0}

        def forward(self, batch: dict[str, torch.Tensor], teacher: torch.Tensor) -> Outcome:
            lengths = batch["attention_mask"].sum(1)
            even = (lengths % 2 == 0).float()
            ids = self.dropout(batch["input_ids"].double() * batch["attention_mask"])
            sums = {"tokens": ids.sum(), "texts": teacher.sum(), "nothing": ids.sum() * 0}
            return Outcome(sums, torch.stack([even, 1 - even], dim=1))

    def teacher(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["attention_mask"].sum(1).double()

    engine.start()
    toy, found = Toy(), []
    held_out = TokenRows(Path(tokens), "validation", 0)
    nothing = Validator(Forward(toy, teacher), toy, held_out, {"nothing": 1.0}, micro_batch_size=4, seed=1).evaluate()
    assert math.isnan(nothing["evaluation/loss"])
    weights = {"tokens": 0.5, "texts": 2.0, "unused": 0.0}
    for size in micro_batch_sizes:
        validator = Validator(Forward(toy, teacher), toy, held_out, weights, micro_batch_size=size, seed=1)
        found.append(validator.evaluate())
    assert toy.training
    toy.task = None  # an objective whose predictions have no scores
    found.append(Validator(Forward(toy, teacher), toy, held_out, weights, micro_batch_size=4, seed=1).evaluate())
    return found


@pytest.mark.parametrize("ranks", [1, 2])
def test_means_are_those_of_all_held_out_rows(labelled: LabelledWorld, ranks: int) -> None:
    from kd_dist.data.token_rows import TokenRows

    rows = TokenRows(labelled.tokens, "validation", 0)
    batch = rows.collate(np.arange(len(rows)))
    lengths = batch["attention_mask"].sum(1).double()
    tokens, texts = float(batch["input_ids"].sum() / lengths.sum()), float(lengths.mean())
    accuracy = float(((lengths % 2 != 0) == batch["labels"]).double().mean())
    *scored, unscored = run_ranks(ranks, "tests.training.test_validation:evaluate", str(labelled.tokens), [1, 5, 24])
    for found in scored:
        assert found["evaluation/tokens"] == pytest.approx(tokens)
        assert found["evaluation/texts"] == pytest.approx(texts)
        assert found["evaluation/loss"] == pytest.approx(0.5 * tokens + 2 * texts)
        assert found["evaluation/accuracy"] == pytest.approx(accuracy)
    assert set(unscored) == {"evaluation/loss", "evaluation/tokens", "evaluation/texts"}
