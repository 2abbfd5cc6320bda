"""A backbone that learns with its exits: the loss is the documented one, and no cut of a run changes what is learnt."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification

from benchmarks import exits
from kd_dist.config.job import Job
from kd_dist.config.objectives.fastbert import FastBertObjective
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.data import TokenData, UnlabelledData
from kd_dist.config.sections.models import Model
from kd_dist.config.sections.training import Cadence, Engine, Optim, Train
from kd_dist.config.stages import TrainStage
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.unlabelled import prepare
from kd_dist.errors import RunError, UserError
from kd_dist.files import read_json
from kd_dist.models.classifier import load_classifier
from kd_dist.models.early_exit import BRANCHES
from kd_dist.models.teacher import model_inputs
from kd_dist.objectives.base import build
from kd_dist.objectives.fastbert import depth_weights
from kd_dist.runs.layout import open_run
from tests.conftest import LabelledWorld
from tests.objectives.builders import built_with_branches as built
from tests.ranks import assert_same, run_ranks

STEPS = 5
TERMS = {"branches", "branch_labels", "label"}


def stage(labelled: LabelledWorld, backbone: Any = "joint", **settings: Any) -> TrainStage:
    objective = FastBertObjective(backbone=backbone, branch_width=8, **settings.pop("objective", {}))
    return TrainStage(
        model=Model(path=str(labelled.teacher)),
        **{"data": TokenData(tokens=str(labelled.tokens)), "objective": objective} | settings,
    )


def loss(method: Any, batch: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
    """As the trainer weights and divides."""
    counts = method.counts(batch)
    return sum(weights[term] * value / counts[term] for term, value in method(batch, None).sums.items())


@pytest.fixture
def batch(labelled: LabelledWorld) -> dict[str, torch.Tensor]:
    return TokenRows(labelled.tokens, "train", 0).collate(np.arange(8))


# ------------------------------------------------------------------------------------------------------------ objective


def test_weights_grow_with_depth_up_to_that_of_the_last_classifier() -> None:
    torch.testing.assert_close(depth_weights(3), torch.tensor([0.25, 0.5, 0.75]))


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_the_loss_is_its_formula_gradients_included(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor], direction: Any
) -> None:
    settings = {"direction": direction, "branch_label_weight": 0.5}
    described = stage(labelled, objective=settings)
    method = built(described).eval()  # without dropout
    whole = AutoModelForSequenceClassification.from_pretrained(labelled.teacher).eval()
    outputs = whole(**model_inputs(method.student, batch), output_hidden_states=True)
    labels, expected = batch["labels"], nn.functional.cross_entropy(outputs.logits, batch["labels"])
    teacher = outputs.logits.detach().softmax(1)
    for depth, branch in enumerate(method.student.branches, start=1):
        logits = branch(outputs.hidden_states[depth], batch["attention_mask"])
        student = logits.softmax(1)
        p, q = (teacher, student) if direction == "teacher_student" else (student, teacher)
        divergence = (p * (p / q).log()).sum(1).mean()
        expected += depth / 3 * (divergence + 0.5 * nn.functional.cross_entropy(logits, labels))
    expected.backward()
    by_hand = {name: p.grad for name, p in whole.named_parameters()}
    of_branches = {name: p.grad.clone() for name, p in method.student.branches.named_parameters()}
    method.zero_grad()
    found = loss(method, batch, described.objective.weights())
    found.backward()
    torch.testing.assert_close(found, expected)
    for name, parameter in method.student.backbone.named_parameters():
        torch.testing.assert_close(parameter.grad, by_hand[name], msg=name)
    for name, parameter in method.student.branches.named_parameters():
        torch.testing.assert_close(parameter.grad, of_branches[name], msg=name)


def test_the_final_classifier_is_not_drawn_towards_its_students(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor]
) -> None:
    method = built(stage(labelled))
    method(batch, None).sums["branches"].backward()
    backbone = method.student.backbone
    assert backbone.bert.encoder.layer[1].output.dense.weight.grad.any()
    for above in (backbone.bert.encoder.layer[2], backbone.bert.pooler, backbone.classifier):
        assert not any(p.grad is not None and p.grad.any() for p in above.parameters())


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_alternating_trains_the_last_classifier_alone_in_odd_steps(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor], step: int
) -> None:
    described = stage(labelled, "alternating")
    method = built(described)
    loss(method, batch, described.objective.weights_at(step)).backward()
    for name, parameter in method.student.named_parameters():
        is_odd, of_branch = step % 2 == 1, name.startswith(BRANCHES)
        if of_branch or name.startswith("backbone.classifier"):
            assert bool(parameter.grad.any()) != (is_odd and of_branch), name


def test_every_other_setting_weights_all_steps_alike() -> None:
    for backbone in ("frozen", "joint"):
        objective = FastBertObjective(backbone=backbone)
        assert objective.weights_at(1) == objective.weights_at(2) == objective.weights()
    alternating = FastBertObjective(backbone="alternating")
    assert alternating.weights_at(2) == alternating.weights() == FastBertObjective(backbone="joint").weights()
    assert set(alternating.weights_at(1)) == TERMS


def test_padding_changes_nothing(labelled: LabelledWorld, batch: dict[str, torch.Tensor]) -> None:
    method = built(stage(labelled)).eval()
    wider = {name: nn.functional.pad(t, (0, 5)) if t.ndim == 2 else t for name, t in batch.items()}
    wider["input_ids"][:, -5:] = 9
    found, expected = method(wider, None), method(batch, None)
    torch.testing.assert_close(found.sums, expected.sums)
    torch.testing.assert_close(found.logits_BC, expected.logits_BC)


def test_the_backbone_learns_with_dropout_and_all_weights_move(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor]
) -> None:
    described = stage(labelled)
    method = built(described)
    assert method.student.backbone.training
    assert not torch.equal(method(batch, None).sums["label"], method(batch, None).sums["label"])
    loss(method, batch, described.objective.weights()).backward()
    assert all(p.requires_grad and p.grad is not None for p in method.student.parameters())


def test_the_backbone_has_a_learning_rate_of_its_own(labelled: LabelledWorld) -> None:
    method = built(stage(labelled, objective={"backbone_rate": 0.1}))
    rates = {name.split(".")[1]: method.rate_of(name) for name, _ in method.named_parameters()}
    assert rates == {"backbone": 0.1, "branches": 1.0}
    frozen = built(stage(labelled, "frozen", objective={"backbone_rate": 0.1}))
    assert {frozen.rate_of(name) for name, p in frozen.named_parameters() if p.requires_grad} == {1.0}


def test_mixed_precision_weights_branches_exactly(labelled: LabelledWorld, batch: dict[str, torch.Tensor]) -> None:
    method = built(stage(labelled)).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = method(batch, None).sums
    for term, value in method(batch, None).sums.items():
        assert mixed[term].dtype == torch.float32
        torch.testing.assert_close(mixed[term], value, atol=0.05, rtol=0.05)


def test_recomputed_layers_give_the_same_gradients(labelled: LabelledWorld, batch: dict[str, torch.Tensor]) -> None:
    kept, recomputed = (built(stage(labelled, engine=Engine(activation_checkpointing=on))) for on in (False, True))
    runs: list[int] = []
    recomputed.student.layers.layers[0].attention.register_forward_hook(lambda *_: runs.append(1))
    for method in (kept, recomputed):
        torch.manual_seed(1)
        loss(method, batch, {"branches": 1.0, "branch_labels": 1.0, "label": 1.0}).backward()
    assert len(runs) == 2
    for (name, one), other in zip(kept.named_parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_rows_without_labels_are_refused(labelled: LabelledWorld, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("股市今天上涨\n球队昨天赢了\n", encoding="utf-8")
    prepare(UnlabelledData(unlabelled=[str(texts)], tokens=str(labelled.tokens)), None, tmp_path / "tokens")
    data = TokenData(tokens=str(tmp_path / "tokens"))
    with pytest.raises(RunError, match="tokens has no labels, which objective.backbone=joint learns from: give rows"):
        build(stage(labelled, data=data), None)
    build(stage(labelled, "frozen", data=data), None)


# ------------------------------------------------------------------------------------------------------------- training


class Runs:
    def __init__(self, root: Path, labelled: LabelledWorld) -> None:
        self.root, self.labelled = root, labelled

    def open(self, run_id: str, ranks: int = 1) -> str:
        described = stage(
            self.labelled,
            "alternating",
            train=Train(steps=STEPS, global_batch_size=8, micro_batch_size=2),
            optim=Optim(learning_rate=1e-3),
            engine=Engine(zero_stage=1),
            cadence=Cadence(evaluate_every_n_steps=STEPS, save_every_n_steps=100, log_every_n_steps=1),
        )
        resources = described.resources.model_copy(update={"gpus_per_node": ranks})
        described = described.model_copy(update={"resources": resources})
        job = Job(name="exits", description="", stages={"self_distill": described}, result="self_distill")
        return str(open_run(job, self.root, run_id) / "self_distill")

    def folder(self, run_id: str) -> Path:
        return self.root / "exits" / run_id / "self_distill"

    def checkpoint(self, run_id: str) -> dict[str, torch.Tensor]:
        directory = self.folder(run_id) / "checkpoints" / f"step_{STEPS:08d}"
        return load_file(directory / "weights.safetensors")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, labelled: LabelledWorld) -> Runs:
    """A whole run, one that is stopped after an odd step and resumed, and one on two ranks."""
    runs = Runs(tmp_path_factory.mktemp("runs"), labelled)
    one = [[runs.open("one"), None, []], [runs.open("stopped"), 3, []], [runs.open("stopped"), None, []]]
    assert [end.split()[0] for end in run_ranks(1, "tests.training.test_trainer:train", one)] == [
        "done",
        "stopped",
        "done",
    ]
    assert run_ranks(2, "tests.training.test_trainer:train", [[runs.open("two", 2), None, []]]) == ["done"]
    return runs


@pytest.mark.parametrize(("run_id", "tolerance"), [("stopped", 0), ("two", 1e-5)])
def test_no_cut_of_a_run_changes_what_is_learnt(runs: Runs, run_id: str, tolerance: float) -> None:
    assert_same(runs.checkpoint("one"), runs.checkpoint(run_id), tolerance)


def test_the_last_classifier_is_scored_while_it_learns(runs: Runs) -> None:
    (row,) = read_json(runs.folder("one").parent / "results.json")
    assert {"accuracy", "macro_f1", *TERMS} <= row.keys()


def test_the_export_holds_the_encoder_that_has_learnt(runs: Runs, labelled: LabelledWorld) -> None:
    before, after = (
        load_file(labelled.teacher / "model.safetensors"),
        load_file(runs.folder("one") / "export" / "model.safetensors"),
    )
    assert {f"backbone.{name}" for name in before} == {name for name in after if not name.startswith(BRANCHES)}
    assert not torch.equal(before["classifier.weight"], after["backbone.classifier.weight"])
    assert load_classifier(runs.folder("one") / "export").at(speed=0.5).labels == ["finance", "sport"]


# -------------------------------------------------------------------------------------------------------------- the job


@pytest.fixture(scope="module")
def finished(labelled: LabelledWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the whole job, from the command line."""
    folder = tmp_path_factory.mktemp("job")
    files = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    settings = [
        f"check.evaluate.models=teacher:{labelled.teacher}",
        f"tokenizer.path={labelled.teacher}",
        "data.max_length=48",
        "guards.teacher=warn",
        "objective.backbone=joint",
        "objective.branch_width=8",
        "train.steps=3",
        "train.micro_batch_size=8",
        "train.global_batch_size=8",
        "evaluate.speeds=0.5",
    ]
    command = [sys.executable, str(REPOSITORY / "launch" / "slurm.py"), "--job", "fastbert", "--cluster", "local"]
    command += ["--runs-dir", str(folder), "--run-id", "tiny", *files, *settings]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder / "fastbert" / "tiny"


def test_the_job_trains_calibrates_and_scores_such_exits(finished: Path) -> None:
    rows = read_json(finished / "results.json")
    assert [row["stage"] for row in rows] == ["check", "self_distill", "evaluation", "evaluation", "evaluation"]
    assert load_classifier(finished / "export").exit_rule is not None
    assert list(finished.glob("**/*.html"))


def test_exits_of_a_run_are_compared_by_the_operations_they_save(finished: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exits, "TARGETS", (1.1,))  # 3 layers cannot save more than a third each
        found = exits.measure(finished / "calibration")
    assert (found["backbone"], found["seed"], found["metric"]) == ("joint", 42, "accuracy")
    by_name = {(row["model"], row["split"]): row for row in read_json(finished / "results.json")}
    assert found["teacher"]["test"] == by_name["teacher", "test"]["accuracy"]
    for rule in found["rules"].values():
        assert rule["all_layers"]["fewer_operations"] == 1.0
        assert rule["targets"]["1.1"]["fewer_operations"] > 1.0
        if rule["no_loss"]:
            assert rule["no_loss"]["validation"] >= found["teacher"]["validation"]
    assert found["patience"]["1"]["fewer_operations"] >= found["patience"]["2"]["fewer_operations"]
    with pytest.raises(UserError, match="holds no calibrated exits: give the folder of a finished run"):
        list(exits.calibrated_stages(finished.parent))
