"""Operations are those of the formulae, whatever the family and the length, and wherever a row left."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kd_dist.config.paths import REPOSITORY
from kd_dist.evaluation.operations import Operations, count_operations
from kd_dist.models.exit_rules import ExitRule
from tests.models.random_models import NUM_LAYERS, random_classifier, random_fastbert
from tests.models.recurrent_models import random_recurrent

WIDTH, INNER, NARROW, NUM_CLASSES = 16, 32, 8, 5
OTHER_LENGTHS = np.array([1, 5, 17, 40])


def operations(model: Any) -> Operations:
    """Counted by as much of a `Classifier` as counting looks at."""
    return Operations.of(SimpleNamespace(model=model, tokenizer=SimpleNamespace(unk_token_id=7)))


def rule(*thresholds: float) -> ExitRule:
    return ExitRule(thresholds, "entropy", 5)


def counted(model: Any, length: int, num_rows: int = 1) -> int:
    return count_operations(model, {"input_ids": torch.full((num_rows, length), 7)})


def layer_operations(length: int, width: int, inner: int) -> int:
    """Query, key, value and output of the attention; its scores and its sums; the two maps of the feed-forward part."""
    return 4 * length * width**2 + 2 * length**2 * width + 2 * length * width * inner


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("length", "num_rows"), [(1, 1), (7, 1), (40, 3)])
def test_a_bert_layer_costs_what_the_formula_says(length: int, num_rows: int, attention: str) -> None:
    four, six = (random_classifier(num_hidden_layers=layers) for layers in (4, 6))
    for model in (four, six):
        model.set_attn_implementation(attention)
    added = counted(six, length, num_rows) - counted(four, length, num_rows)
    assert added == 2 * num_rows * layer_operations(length, WIDTH, INNER)
    pooler_and_classifier = WIDTH**2 + WIDTH * 3
    assert counted(four, length, num_rows) == num_rows * (
        4 * layer_operations(length, WIDTH, INNER) + pooler_and_classifier
    )


PROFILED = {"albert": 178_736, "bert": 176_560, "distilbert": 176_560, "electra": 178_736, "roberta": 176_560}


@pytest.mark.parametrize("kind", PROFILED)
def test_every_family_costs_what_a_profiler_has_found(kind: str) -> None:
    """As DeepSpeed's profiler counted these models at a length of 17."""
    assert counted(random_classifier(kind), 17) == PROFILED[kind]


def test_evaluation_needs_neither_deepspeed_nor_the_trainer() -> None:
    code = (
        "import pkgutil, importlib, sys, kd_dist.evaluation as package\n"
        "for module in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'kd_dist.evaluation.{module.name}')\n"
        "import kd_dist.evaluate\n"
        "print([name for name in sys.modules if name.startswith(('deepspeed', 'kd_dist.training', 'submitit'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("kind", ["bert", "albert", "distilbert", "electra", "roberta"])
def test_without_exits_it_costs_what_the_plain_model_costs(kind: str) -> None:
    model = random_fastbert(kind)
    early, plain = operations(model), operations(model.backbone)
    expected = [counted(model.backbone, length) for length in OTHER_LENGTHS]
    assert plain.per_row(OTHER_LENGTHS).round().tolist() == expected
    never = early.per_row(OTHER_LENGTHS, np.full(4, NUM_LAYERS), rule(0.0, 0.0, 0.0))
    assert never.round().tolist() == expected


def parts(length: int) -> tuple[int, int, int]:
    """Multiply-accumulates of a layer, a branch and the head."""
    # Projected tokens, and scores of and sums over them in each of two heads; query, key, value, output and dense once.
    branch = length * WIDTH * NARROW + 2 * length * 2 * NARROW + 5 * NARROW**2 + NARROW * NUM_CLASSES
    return layer_operations(length, WIDTH, INNER), branch, WIDTH**2 + WIDTH * NUM_CLASSES


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


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_a_recurrent_model_costs_its_gates_for_each_token_and_direction(cell: str, gates: int) -> None:
    found = operations(random_recurrent(cell=cell, num_hidden_layers=2))
    head = 16 * 10 + 10 * 3
    for length in OTHER_LENGTHS:
        layers = 2 * length * gates * (8 * (12 + 8) + 8 * (16 + 8))
        assert round(found.per_row(np.array([length]))[0]) == layers + head


def test_counting_leaves_the_fast_kernels_as_they_were(recwarn: pytest.WarningsRecorder) -> None:
    before = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    operations(random_recurrent())
    assert (torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled) == before
    assert [str(warning.message) for warning in recwarn] == []
