"""Self-distillation: the loss is the published one, only branches learn, and no cut of a run changes what is learnt."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForSequenceClassification

from kd_dist.config.job import Job
from kd_dist.config.objectives.fastbert import FastBertObjective
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.paths import REPOSITORY, python_path
from kd_dist.config.sections.data import TokenData
from kd_dist.config.sections.models import Model, Teacher
from kd_dist.config.sections.training import Cadence, Engine, Optim, Train
from kd_dist.config.stages import TrainStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import RunError, UserError
from kd_dist.models.classifier import load_classifier
from kd_dist.models.early_exit import BRANCHES, FastBertForSequenceClassification
from kd_dist.models.teacher import model_inputs
from kd_dist.objectives.base import build
from kd_dist.runs.layout import open_run
from kd_dist.serving.export import export
from tests.conftest import LabelledWorld, TinyWorld
from tests.models.random_models import save_classifier
from tests.objectives.builders import built_with_branches as built
from tests.ranks import assert_same, run_ranks

STEPS = 6
NUM_BRANCHES = 2  # of the labelled world's teacher


def stage(labelled: LabelledWorld, model: Path | None = None, **settings: Any) -> TrainStage:
    return TrainStage(
        model=Model(path=str(model or labelled.teacher)),
        data=TokenData(tokens=str(labelled.tokens)),
        **{"objective": FastBertObjective(branch_width=8)} | settings,
    )


@pytest.fixture
def batch(labelled: LabelledWorld) -> dict[str, torch.Tensor]:
    return TokenRows(labelled.tokens, "train", 0).collate(np.arange(8))


# ------------------------------------------------------------------------------------------------------------ objective


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_the_loss_is_the_published_sum_over_branches(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor], direction: Any
) -> None:
    method = built(stage(labelled, objective=FastBertObjective(branch_width=8, direction=direction)))
    whole = AutoModelForSequenceClassification.from_pretrained(labelled.teacher).eval()
    inputs = model_inputs(method.student, batch)
    with torch.no_grad():
        outputs = whole(**inputs, output_hidden_states=True)
    expected = 0.0
    for branch, hidden_BSD in zip(method.student.branches, outputs.hidden_states[1:-1], strict=True):
        student = branch(hidden_BSD, batch["attention_mask"]).softmax(1)
        teacher = outputs.logits.softmax(1)
        p, q = (teacher, student) if direction == "teacher_student" else (student, teacher)
        expected += (p * (p / q).log()).sum(1).mean()
    assert method.counts(batch) == {"branches": 8.0}
    torch.testing.assert_close(method(batch, None).sums["branches"] / 8, expected)


def test_only_branches_learn(labelled: LabelledWorld, batch: dict[str, torch.Tensor]) -> None:
    method = built(stage(labelled))
    method(batch, None).sums["branches"].backward()
    for name, parameter in method.student.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == name.startswith(BRANCHES), name
        assert parameter.requires_grad == name.startswith(BRANCHES)


def test_there_is_no_dropout_in_training(labelled: LabelledWorld, batch: dict[str, torch.Tensor]) -> None:
    method = built(stage(labelled))
    assert method.student.backbone.config.hidden_dropout_prob > 0
    assert torch.equal(method(batch, None).sums["branches"], method(batch, None).sums["branches"])
    plain = load_classifier(labelled.teacher).model
    with torch.no_grad():
        last = method.student.all_logits(model_inputs(method.student, batch))[-1]
        torch.testing.assert_close(last, plain(**model_inputs(plain, batch)).logits)


def test_mixed_precision_learns_the_same(labelled: LabelledWorld, batch: dict[str, torch.Tensor]) -> None:
    method = built(stage(labelled))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = method(batch, None).sums["branches"]
    mixed.backward()
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, method(batch, None).sums["branches"], atol=0.05, rtol=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in method.student.branches.parameters())


def test_padding_changes_nothing(labelled: LabelledWorld, batch: dict[str, torch.Tensor]) -> None:
    method = built(stage(labelled))
    wider = {name: nn.functional.pad(t, (0, 5)) if t.ndim == 2 else t for name, t in batch.items()}
    wider["input_ids"][:, -5:] = 9
    torch.testing.assert_close(method(wider, None).sums["branches"], method(batch, None).sums["branches"])


def test_each_layer_runs_once(labelled: LabelledWorld, batch: dict[str, torch.Tensor]) -> None:
    method, calls = built(stage(labelled)), []
    for number, layer in enumerate(method.student.layers.layers):
        layer.register_forward_hook(lambda *_, number=number: calls.append(number))
    method(batch, None).sums["branches"].backward()
    assert calls == [0, 1, 2]


def test_nothing_of_the_backbone_is_kept_for_backward_but_what_branches_read(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor]
) -> None:
    method, kept = built(stage(labelled)), {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    inside: list[int] = []
    for layer in method.student.layers.layers:
        layer.register_forward_hook(lambda *_: inside.append(len(kept)))
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = method(batch, None).sums["branches"]
    rows, length, width, narrow, heads = *batch["input_ids"].shape, 32, 8, 2
    wide = [tensor for tensor in kept.values() if tensor.numel() >= rows * length * width]
    assert len(wide) == NUM_BRANCHES  # the states after each layer but the last
    weights = {parameter.untyped_storage().data_ptr() for parameter in method.parameters()}
    elements = sum(tensor.numel() for place, tensor in kept.items() if place not in weights)
    of_tokens = rows * length * (width + narrow + 4 * heads + 1)
    of_rows = rows * narrow * (4 * heads + 8)
    assert elements <= NUM_BRANCHES * (of_tokens + of_rows) + 100
    loss.backward()


def test_branches_of_an_earlier_run_learn_on(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    first = built(stage(labelled))
    first.student.save_pretrained(tmp_path)
    load_tokenizer(PreparedRows(labelled.tokens).tokenizer_folder).save_pretrained(tmp_path)
    method = build(stage(labelled, tmp_path), None)
    for name, value in first.student.state_dict().items():
        assert torch.equal(method.student.state_dict()[name], value)
    method(batch, None).sums["branches"].backward()
    assert all(parameter.grad is not None for parameter in method.student.branches.parameters())
    assert all(parameter.grad is None for parameter in method.student.backbone.parameters())


def test_a_small_student_can_be_the_backbone(
    tiny: TinyWorld, labelled: LabelledWorld, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    settings = {"id2label": {0: "finance", 1: "sport"}, "label2id": {"finance": 0, "sport": 1}}
    student = save_classifier(tmp_path / "student", tiny.tokenizer, num_hidden_layers=4, **settings)
    method = built(stage(labelled, student))
    assert len(method.student.branches) == 3
    assert method(batch, None).sums["branches"] > 0


def test_models_that_cannot_exit_early_are_refused(tiny: TinyWorld, labelled: LabelledWorld, tmp_path: Path) -> None:
    one = {"id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    number = save_classifier(tmp_path / "number", tiny.tokenizer, **one)
    with pytest.raises(RunError, match="number predicts a number, not labels: there is no uncertainty"):
        built(stage(labelled, number))
    single = save_classifier(tmp_path / "single", tiny.tokenizer, num_hidden_layers=1)
    with pytest.raises(RunError, match="single has a single layer: there is no layer before the last to exit from"):
        built(stage(labelled, single))
    with pytest.raises(UserError, match="not a trained classifier: its config.json names BertModel"):
        built(stage(labelled, tiny.teacher))


# ------------------------------------------------------------------------------------------------------------- training


class Runs:
    def __init__(self, root: Path, labelled: LabelledWorld) -> None:
        self.root, self.labelled = root, labelled

    def open(self, run_id: str, zero_stage: int = 1, ranks: int = 1) -> str:
        described = stage(
            self.labelled,
            train=Train(steps=STEPS, global_batch_size=8, micro_batch_size=2),
            optim=Optim(learning_rate=1e-2),
            engine=Engine(zero_stage=zero_stage),
            cadence=Cadence(evaluate_every_n_steps=3, save_every_n_steps=100, log_every_n_steps=1),
        )
        resources = described.resources.model_copy(update={"gpus_per_node": ranks})
        described = described.model_copy(update={"resources": resources})
        job = Job(name="branches", description="", stages={"self_distill": described}, result="self_distill")
        return str(open_run(job, self.root, run_id) / "self_distill")

    def checkpoint(self, run_id: str) -> dict[str, torch.Tensor]:
        directory = self.root / "branches" / run_id / "self_distill" / "checkpoints" / f"step_{STEPS:08d}"
        moments = load_file(directory / "optimizer.safetensors")
        return load_file(directory / "weights.safetensors") | {f"moments/{name}": t for name, t in moments.items()}

    def export(self, run_id: str) -> Path:
        return self.root / "branches" / run_id / "self_distill" / "export"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, labelled: LabelledWorld) -> Runs:
    """Two starts of processes serve every test."""
    runs = Runs(tmp_path_factory.mktemp("runs"), labelled)

    def start(world_size: int, *plans: tuple[str, int, int | None]) -> None:
        opened = [[runs.open(run_id, zero, world_size), stop_at, []] for run_id, zero, stop_at in plans]
        ends = run_ranks(world_size, "tests.training.test_trainer:train", opened)
        assert [end.split()[0] for end in ends] == ["stopped" if stop_at else "done" for _, _, stop_at in plans]

    stopped, resumed = [("stopped", 1, 3), ("stopped0", 0, 3)], [("stopped", 1, None), ("stopped0", 0, None)]
    start(1, ("one", 1, None), ("zero0", 0, None), ("zero2", 2, None), *stopped, *resumed)
    start(2, ("two", 1, None), ("two_stopped", 1, 3), ("two_stopped", 1, None))
    return runs


@pytest.mark.parametrize(
    ("run_id", "like", "tolerance"),
    [
        ("stopped", "one", 0),
        ("stopped0", "zero0", 0),
        ("zero0", "one", 1e-5),
        ("zero2", "one", 1e-5),
        ("two", "one", 1e-5),
        ("two_stopped", "two", 0),
    ],
)
def test_no_cut_of_a_run_changes_what_is_learnt(runs: Runs, run_id: str, like: str, tolerance: float) -> None:
    assert_same(runs.checkpoint(run_id), runs.checkpoint(like), tolerance)


def test_what_is_frozen_is_in_no_checkpoint(runs: Runs) -> None:
    frozen = dict(load_classifier(runs.export("one")).model.backbone.named_parameters())
    names = runs.checkpoint("one")
    assert not [name for name in names for one in frozen if name.endswith(f"backbone.{one}")]
    learnt = [name for name in names if f".{BRANCHES}" in name]
    assert len(learnt) == 3 * NUM_BRANCHES * 13  # value and two moments of seven maps, one of them without a bias


def test_the_backbone_and_its_trained_head_come_out_bit_for_bit(runs: Runs, labelled: LabelledWorld) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (labelled.teacher, runs.export("one")))
    kept = {name.removeprefix("backbone."): value for name, value in after.items() if not name.startswith(BRANCHES)}
    assert before.keys() == kept.keys()
    assert all(torch.equal(before[name], kept[name]) for name in before)
    rows = TokenRows(labelled.tokens, "validation", 0).collate(np.arange(24))
    stage0, stage1 = load_classifier(labelled.teacher), load_classifier(runs.export("one"))
    assert isinstance(stage1.model, FastBertForSequenceClassification)
    assert stage1.labels == stage0.labels == ["finance", "sport"]
    inputs = [model_inputs(stage0.model, rows)]
    torch.testing.assert_close(stage1.at(speed=0.0).run(inputs).logits_NC, stage0.run(inputs).logits_NC)


def test_branches_have_learnt(runs: Runs, labelled: LabelledWorld) -> None:
    metrics = (runs.export("one").parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [row["evaluation/branches"] for row in map(json.loads, metrics) if "evaluation/branches" in row]
    assert len(losses) == 2
    assert losses[-1] < losses[0]
    manifest = json.loads((runs.export("one") / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["scores"]["evaluation/branches"] == losses[-1]


# -------------------------------------------------------------------------------------------------------------- export


def test_the_export_tells_a_stranger_how_to_load_it(runs: Runs, labelled: LabelledWorld) -> None:
    text = (runs.export("one") / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    environment = os.environ | {"PYTHONPATH": python_path(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=runs.export("one"), env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = re.fullmatch(r"tensor\(\[(\d), (\d)\]\) tensor\(\[(\d), (\d)\]\)", ran.stdout.strip())
    assert found, ran.stdout
    assert {int(layer) for layer in found.groups()[2:]} <= {1, 2, 3}


def test_the_export_of_any_other_model_needs_no_explanation(labelled: LabelledWorld, tmp_path: Path) -> None:
    described = TrainStage(
        teacher=Teacher(path=str(labelled.teacher)),
        data=TokenData(tokens=str(labelled.tokens)),
        objective=FinetuneObjective(),
    )
    job = Job(name="plain", description="", stages={"finetune": described}, result="finetune")
    tokenizer = load_tokenizer(PreparedRows(labelled.tokens).tokenizer_folder)
    directory = export(
        build(described, tokenizer),
        tokenizer,
        PreparedRows(labelled.tokens),
        open_run(job, tmp_path, "a") / "finetune",
        {},
    )
    assert load_classifier(directory).labels == ["finance", "sport"]
    assert not (directory / "README.md").exists()


# ------------------------------------------------------------------------------------------------- damaged directories


@pytest.mark.parametrize("layers", [2, 4])
def test_branches_of_another_depth_are_refused(layers: int, runs: Runs, tmp_path: Path) -> None:
    directory = tmp_path / "export"
    shutil.copytree(runs.export("one"), directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    assert config["backbone"]["num_hidden_layers"] == 3
    config["backbone"]["num_hidden_layers"] = layers
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=f"branches in .* do not fit its encoder of {layers} layers .*branches"):
        load_classifier(directory)
