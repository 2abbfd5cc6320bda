"""The forward and backward pass never read a value back from the device, for which the host would have to wait.

Tensors on the meta device have no values, so that whatever reads one raises.
"""

import contextlib

import pytest
import torch

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
from tests.conftest import LabelledWorld
from tests.objectives.builders import built, stage

META = torch.device("meta")

STEPS: dict[str, ObjectiveSection] = {
    "fastbert": FastBertObjective(branch_width=8),
    "fastbert, joint": FastBertObjective(branch_width=8, backbone="joint"),
    "finetune": FinetuneObjective(),
    "finetune, weighted": FinetuneObjective(class_weights="balanced"),
    "mlm": MlmObjective(),
    "permutation": PermutationObjective(),
    "relations": RelationsObjective(),
    "soft_labels": SoftLabelsObjective(hard_weight=1.0, logits_weight=1.0),
    "tinybert": TinyBertObjective(attention_weight=1.0),
    "tinybert, as published": TinyBertObjective(compat="huawei"),
}


def wait_free_step(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor], settings: ObjectiveSection, **given: object
) -> None:
    method = built(stage(labelled, settings, **given)).train()
    prepared = method.prepare(batch, seed=1)
    counts, weights = method.counts(prepared), settings.weights()
    teacher = None
    if (wanted := method.wanted()) is not None:
        teacher = Teacher(str(labelled.teacher), wanted, precision="fp32", device=META)
    on_device = {name: tensor.to(META) for name, tensor in prepared.items()}
    method.to(META)
    sums = method(on_device, teacher(on_device) if teacher else None).sums
    loss = torch.stack([weights[term] * (total / counts[term]) for term, total in sums.items()]).sum()
    loss.backward()
    assert any(parameter.grad is not None for parameter in method.parameters())


@pytest.mark.parametrize("name", STEPS)
def test_a_step_waits_for_nothing(
    labelled: LabelledWorld, labelled_batch: dict[str, torch.Tensor], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # there is none on meta
    given = {"student": None, "model": Model(path=str(labelled.teacher))} if name.startswith("fastbert") else {}
    assert not labelled_batch["attention_mask"].all()  # looking for padding is what would wait
    wait_free_step(labelled, labelled_batch, STEPS[name], **given)


def test_every_objective_is_here() -> None:
    assert {settings.name for settings in STEPS.values()} == OBJECTIVES
