"""Branches that cannot be trained are refused by their settings."""

from types import SimpleNamespace

import pytest

from kd_dist.config.objectives.fastbert import FastBertObjective
from kd_dist.config.sections.models import Model
from kd_dist.config.sections.training import Engine


def stage(**settings: object) -> SimpleNamespace:
    return SimpleNamespace(**{"model": Model(path="m"), "engine": Engine()} | settings)


@pytest.mark.parametrize(
    ("objective", "settings", "said"),
    [
        ({}, {"model": None}, "there is no model to add branches to: set model.path"),
        ({"branch_heads": 3}, {}, "objective.branch_width=128 does not divide among objective.branch_heads=3"),
        ({}, {"engine": Engine(activation_checkpointing=True)}, "engine.activation_checkpointing=true does nothing"),
    ],
)
def test_problems_of_a_stage(objective: dict[str, int], settings: dict[str, object], said: str) -> None:
    (problem,) = FastBertObjective(**objective).problems(stage(**settings))
    assert problem.startswith(said)
    assert FastBertObjective().problems(stage()) == []


def test_a_backbone_that_learns_may_recompute_its_layers_but_needs_labels() -> None:
    recomputed = stage(engine=Engine(activation_checkpointing=True))
    for backbone in ("joint", "alternating"):
        objective = FastBertObjective(backbone=backbone)
        assert objective.problems(recomputed) == []
        (problem,) = objective.unlabelled_problems()
        assert problem.startswith(f"objective.backbone={backbone} trains the last classifier on labels")
    assert FastBertObjective().unlabelled_problems() == []


def test_a_number_and_a_single_layer_have_no_early_exit() -> None:
    method = FastBertObjective()
    assert [len(method.task_problems(task)) for task in ("single_label", "multi_label", "regression")] == [0, 0, 1]
    assert [len(method.training_problems({"num_hidden_layers": layers})) for layers in (1, 2)] == [1, 0]
