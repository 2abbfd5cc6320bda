"""Operations are those of the profiler, whatever the length, and those of the formulae, wherever a row left."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kd_dist.evaluation.operations import Operations, count_operations
from kd_dist.models.exit_rules import ExitRule
from tests.models.test_early_exit import NUM_LAYERS, random_fastbert

WIDTH, INNER, NARROW, NUM_CLASSES = 16, 32, 8, 5
OTHER_LENGTHS = np.array([1, 5, 17, 40])


def operations(model: Any) -> Operations:
    """Counted by as much of a `Classifier` as counting looks at."""
    return Operations.of(SimpleNamespace(model=model, tokenizer=SimpleNamespace(unk_token_id=7)))  # type: ignore[arg-type]


def rule(*thresholds: float) -> ExitRule:
    return ExitRule(thresholds, "entropy", 5)


def profiled(model: Any, length: int) -> int:
    return count_operations(model, {"input_ids": torch.full((1, length), 7)})


@pytest.mark.parametrize("kind", ["bert", "albert", "distilbert", "electra", "roberta"])
def test_without_exits_it_costs_what_the_plain_model_costs(kind: str) -> None:
    model = random_fastbert(kind)
    early, plain = operations(model), operations(model.backbone)
    expected = [profiled(model.backbone, length) for length in OTHER_LENGTHS]
    assert plain.per_row(OTHER_LENGTHS).round().tolist() == expected
    never = early.per_row(OTHER_LENGTHS, np.full(4, NUM_LAYERS), rule(0.0, 0.0, 0.0))
    assert never.round().tolist() == expected


def parts(length: int) -> tuple[int, int, int]:
    """Multiply-accumulates of a layer, a branch and the head."""
    layer = 4 * length * WIDTH**2 + 2 * length * WIDTH * INNER + 2 * length**2 * WIDTH
    # Projected tokens, and scores of and sums over them in each of two heads; query, key, value, output and dense once.
    branch = length * WIDTH * NARROW + 2 * length * 2 * NARROW + 5 * NARROW**2 + NARROW * NUM_CLASSES
    return layer, branch, WIDTH**2 + WIDTH * NUM_CLASSES


@pytest.mark.parametrize("asked", [(True, True, True), (False, True, False), (True, False, False)])
def test_a_row_costs_its_layers_and_the_branches_it_was_asked_by(asked: tuple[bool, ...]) -> None:
    found, asking = operations(random_fastbert()), rule(*(0.5 * one for one in asked))
    for length in OTHER_LENGTHS:
        layer, branch, head = parts(int(length))
        for left in range(1, NUM_LAYERS + 1):
            expected = left * layer + sum(asked[:left]) * branch + (left == NUM_LAYERS) * head
            assert round(found.per_row(np.array([length]), np.array([left]), asking)[0]) == expected


def test_rows_are_counted_one_by_one() -> None:
    found, asking = operations(random_fastbert()), rule(0.5, 0.5, 0.5)
    lengths_N, layers_N = np.array([3, 9, 9, 20]), np.array([1, 4, 2, 3])
    alone = [found.per_row(lengths_N[row : row + 1], layers_N[row : row + 1], asking)[0] for row in range(4)]
    assert found.per_row(lengths_N, layers_N, asking).tolist() == pytest.approx(alone)
    assert found.per_row(lengths_N, layers_N, rule(0.0, 0.0, 0.0)).sum() < sum(alone)
