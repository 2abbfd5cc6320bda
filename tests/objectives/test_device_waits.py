"""The forward and backward pass never read a value back from the device, for which the host would have to wait.

Tensors on the meta device have no values, so that whatever reads one raises.
"""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import XLNetLMHeadModel

from kd_dist.config.objectives.fastbert import FastBertObjective
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.objectives.mlm import MlmObjective
from kd_dist.config.objectives.permutation import PermutationObjective
from kd_dist.config.objectives.relations import RelationsObjective
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.models import Model
from kd_dist.config.sections.objective import ObjectiveSection
from kd_dist.config.stages import OBJECTIVES
from kd_dist.models.teacher import Teacher
from kd_dist.objectives.base import Objective
from kd_dist.objectives.permutation import PermutationLanguageModel
from tests.conftest import LabelledWorld
from tests.models.random_models import random_config, random_inputs
from tests.objectives.builders import built, stage

META = torch.device("meta")

STEPS: dict[str, ObjectiveSection] = {
    "fastbert": FastBertObjective(branch_width=8),
    "fastbert, joint": FastBertObjective(branch_width=8, backbone="joint"),
    "finetune": FinetuneObjective(),
    "finetune, weighted": FinetuneObjective(class_weights="balanced"),
    "mlm": MlmObjective(),
    "relations": RelationsObjective(),
    "soft_labels": SoftLabelsObjective(hard_weight=1.0, logits_weight=1.0),
    "tinybert": TinyBertObjective(attention_weight=1.0),
    "tinybert, as published": TinyBertObjective(compat="huawei"),
}


def step(method: Objective, settings: ObjectiveSection, batch: dict[str, torch.Tensor], teacher: Path) -> bool:
    """Prepare a batch as in training, run its step on the meta device, and return whether there are gradients."""
    prepared = method.train().prepare(batch, seed=1)
    counts, weights = method.counts(prepared), settings.weights()
    wanted = method.wanted()
    runs = Teacher(str(teacher), wanted, precision="fp32", device=META) if wanted is not None else None
    on_device = {name: tensor.to(META) for name, tensor in prepared.items()}
    sums = method.to(META)(on_device, runs(on_device) if runs else None).sums
    torch.stack([weights[term] * (total / counts[term]) for term, total in sums.items()]).sum().backward()
    return any(parameter.grad is not None for parameter in method.parameters())


@pytest.fixture(autouse=True)
def without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # there is none on meta


@pytest.mark.parametrize("name", STEPS)
def test_a_step_waits_for_nothing(labelled: LabelledWorld, labelled_batch: dict[str, torch.Tensor], name: str) -> None:
    given = {"student": None, "model": Model(path=str(labelled.teacher))} if name.startswith("fastbert") else {}
    assert not labelled_batch["attention_mask"].all()  # looking for padding is what would wait
    assert step(built(stage(labelled, STEPS[name], **given)), STEPS[name], labelled_batch, labelled.teacher)


def test_a_step_of_xlnet_waits_for_nothing(labelled: LabelledWorld) -> None:
    settings, tokenizer = PermutationObjective(), SimpleNamespace(all_special_ids=[0, 1, 2, 3, 4])
    method = PermutationLanguageModel(XLNetLMHeadModel(random_config("xlnet")), settings, tokenizer)
    assert step(method, settings, random_inputs([12, 7, 3]), labelled.teacher)


def test_every_objective_is_here() -> None:
    assert {settings.name for settings in STEPS.values()} | {"permutation"} == OBJECTIVES
