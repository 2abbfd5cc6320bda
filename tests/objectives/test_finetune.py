"""Learning from labels and from predictions: the objectives equal their formulas, and the trainer keeps the best."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from kd_dist.config.families import FAMILIES
from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.data import LabelledData, TokenData
from kd_dist.config.sections.models import Student
from kd_dist.config.sections.models import Teacher as TeacherSettings
from kd_dist.config.sections.training import Cadence, Selection, Train
from kd_dist.config.stages import TrainStage
from kd_dist.data.labelled import prepare
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizers import load_tokenizer
from kd_dist.models.students import output_layer
from kd_dist.models.teacher import Teacher
from kd_dist.objectives.base import PREDICTION, build
from kd_dist.objectives.tinybert import TinyBert
from kd_dist.runs.layout import open_run
from kd_dist.runs.metrics import read_metrics
from kd_dist.runs.stage_runner import run_stage
from tests.conftest import LabelledWorld
from tests.models.test_encoder_layers import random_classifier, random_inputs
from tests.ranks import run_ranks


def stage(labelled: LabelledWorld, objective: object, **settings: object) -> TrainStage:
    return TrainStage(
        teacher=TeacherSettings(path=str(labelled.teacher)),
        data=TokenData(tokens=str(labelled.tokens)),
        objective=objective,  # type: ignore[arg-type]
        **{"student": Student(config=str(labelled.student))} | settings,  # type: ignore[arg-type]
    )


def built(described: TrainStage) -> object:
    torch.manual_seed(0)
    return build(described, load_tokenizer(Path(described.data.tokens) / "tokenizer")).eval()


@pytest.fixture
def batch(labelled: LabelledWorld) -> dict[str, torch.Tensor]:
    return TokenRows(labelled.tokens, "train", 0).collate(np.arange(8))


def test_fine_tuning_is_the_cross_entropy_of_transformers(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor]
) -> None:
    method = built(stage(labelled, FinetuneObjective(), student=None))
    model = AutoModelForSequenceClassification.from_pretrained(labelled.teacher).eval()
    fed = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    sums = method(batch, None)
    torch.testing.assert_close(sums["label"] / method.counts(batch)["label"], model(**fed).loss)
    torch.testing.assert_close(sums[PREDICTION], model(**fed).logits)


def test_balanced_weights_are_inverse_to_the_rows_of_a_class(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor]
) -> None:
    method = built(stage(labelled, FinetuneObjective(class_weights="balanced")))
    counts = np.bincount(TokenRows(labelled.tokens, "train", 0).collate(np.arange(60))["labels"], minlength=2)
    weights = torch.tensor(60 / (2 * counts), dtype=torch.float32)
    sums = method(batch, None)
    expected = nn.functional.cross_entropy(sums[PREDICTION], batch["labels"], weight=weights)
    torch.testing.assert_close(sums["label"] / method.counts(batch)["label"], expected)


@pytest.fixture(scope="module")
def several(labelled: LabelledWorld, tmp_path_factory: pytest.TempPathFactory) -> LabelledWorld:
    """The same texts: all have the label `text`, and half of them `finance` besides."""
    root = tmp_path_factory.mktemp("several")
    for name in ("train", "validation", "test"):
        lines = (labelled.files / f"{name}.tsv").read_text(encoding="utf-8").replace("sport\t", "text\t")
        (root / f"{name}.tsv").write_text(lines.replace("finance\t", "finance|text\t"), encoding="utf-8")
    files = {name: [str(root / f"{name}.tsv")] for name in ("train", "validation", "test")}
    data = LabelledData(**files, task="multi_label", max_length=48)
    prepare(data, str(labelled.tokens / "tokenizer"), root / "tokens", root / "texts.txt")
    return replace(labelled, files=root, tokens=root / "tokens")


@pytest.mark.parametrize("objective", [FinetuneObjective(), SoftLabelsObjective()])
def test_a_new_head_for_several_labels_starts_at_how_often_they_occur(
    several: LabelledWorld, objective: object, tmp_path: Path
) -> None:
    model = built(stage(several, objective)).student
    # `finance` stands in 30 of 60 rows, `text` in all; half a row more has each label, and half a row has not.
    torch.testing.assert_close(model.classifier.bias.sigmoid(), torch.tensor([30.5 / 61, 60.5 / 61]))
    trained = torch.tensor([0.0, -0.25])
    with torch.no_grad():
        model.classifier.bias.copy_(trained)
    model.save_pretrained(tmp_path)
    again = built(stage(several, objective, student=Student(path=str(tmp_path)))).student
    assert torch.equal(again.classifier.bias, trained)


def test_a_new_head_for_one_label_prefers_none(labelled: LabelledWorld) -> None:
    assert not built(stage(labelled, FinetuneObjective())).student.classifier.bias.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_output_layer_is_what_gives_the_logits(family: str) -> None:
    model, inputs = random_classifier(family, num_labels=3), random_inputs([7, 5])
    with torch.no_grad():
        before = model(**inputs).logits
        output_layer(model).bias += torch.tensor([0.0, 1.0, -2.0])
        torch.testing.assert_close(model(**inputs).logits, before + torch.tensor([0.0, 1.0, -2.0]))


def test_soft_labels_compare_with_the_teacher_and_padding_changes_nothing(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor]
) -> None:
    settings = SoftLabelsObjective(temperature=2.0, hard_weight=0.5, logits_weight=0.1)
    method = built(stage(labelled, settings))
    teacher = Teacher(str(labelled.teacher), method.wanted(), precision="fp32", device=torch.device("cpu"))
    sums, targets = method(batch, teacher(batch)), teacher(batch).logits
    soft = -4 * ((targets / 2).softmax(1) * (sums[PREDICTION] / 2).log_softmax(1)).sum(1).mean()
    counts = method.counts(batch)
    torch.testing.assert_close(sums["soft"] / counts["soft"], soft)
    torch.testing.assert_close(sums["logits"] / counts["logits"], nn.functional.mse_loss(sums[PREDICTION], targets))
    torch.testing.assert_close(
        sums["hard"] / counts["hard"], nn.functional.cross_entropy(sums[PREDICTION], batch["labels"])
    )
    wider = {name: nn.functional.pad(t, (0, 5)) if t.ndim == 2 else t for name, t in batch.items()}
    for term, value in method(wider, teacher(wider)).items():
        torch.testing.assert_close(value, sums[term], atol=1e-4, rtol=1e-5)


def test_the_trained_teacher_and_its_order_of_labels_are_what_is_distilled(
    labelled: LabelledWorld, batch: dict[str, torch.Tensor]
) -> None:
    config = json.loads((labelled.teacher / "config.json").read_text())
    swapped = {name: 1 - number for name, number in config["label2id"].items()}
    wanted = built(stage(labelled, SoftLabelsObjective())).wanted()
    plain = Teacher(str(labelled.teacher), wanted, precision="fp32", device=torch.device("cpu"))
    mapped = Teacher(str(labelled.teacher), wanted, precision="fp32", device=torch.device("cpu"), label2id=swapped)
    torch.testing.assert_close(mapped(batch).logits, plain(batch).logits.flip(1))


def test_a_student_starts_from_teacher_layers(labelled: LabelledWorld) -> None:
    student = Student(teacher_layers=[1, 3])
    method = built(stage(labelled, TinyBertObjective(), student=student))
    whole = AutoModelForSequenceClassification.from_pretrained(labelled.teacher)
    assert method.student.config.num_hidden_layers == 2
    for mine, its in ((0, 0), (1, 2)):
        ours, theirs = method.student.encoder.layer[mine], whole.base_model.encoder.layer[its]
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value)


def test_a_student_goes_on_with_its_projections(labelled: LabelledWorld, tmp_path: Path) -> None:
    first = built(stage(labelled, TinyBertObjective()))
    assert isinstance(first, TinyBert)
    first.student.save_pretrained(tmp_path)
    first.save_extras(tmp_path)
    torch.manual_seed(1)
    second = build(
        stage(labelled, TinyBertObjective(), student=Student(path=str(tmp_path))),
        load_tokenizer(labelled.tokens / "tokenizer"),
    )
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value)


# ------------------------------------------------------------------------------------------------------------ training


def train(labelled: LabelledWorld, runs_dir: Path, run_id: str, **settings: object) -> Path:
    described = stage(labelled, FinetuneObjective(), **settings)
    job = Job(name="classify", description="", stages={"train": described}, result="train")
    return open_run(job, runs_dir, run_id) / "train"


def run_one_stage(directory: str) -> None:
    """What every rank runs."""
    run_stage(Path(directory))


def evaluations(directory: Path) -> list[float]:
    rows = read_metrics(directory / "metrics.jsonl")
    return [row["evaluation/accuracy"] for row in rows if "evaluation/accuracy" in row]


def test_the_best_step_is_exported_whatever_the_number_of_ranks(labelled: LabelledWorld, tmp_path: Path) -> None:
    settings = {
        "train": Train(steps=12, global_batch_size=8, micro_batch_size=4),
        "selection": Selection(),
        "cadence": Cadence(evaluate_every_n_steps=2, save_every_n_steps=5, keep_checkpoints=1, log_every_n_steps=2),
    }
    exports = []
    for ranks in (1, 2):
        directory = train(labelled, tmp_path, f"ranks{ranks}", **settings)
        run_ranks(ranks, "tests.objectives.test_finetune:run_one_stage", str(directory))
        seen = evaluations(directory)
        assert len(seen) == 6
        model = AutoModelForSequenceClassification.from_pretrained(directory / "export").eval()
        rows = TokenRows(labelled.tokens, "validation", 0)
        held_out = rows.collate(np.arange(len(rows)))
        with torch.no_grad():
            logits_BC = model(held_out["input_ids"], held_out["attention_mask"]).logits
        accuracy = float((logits_BC.argmax(1) == held_out["labels"]).float().mean())
        assert accuracy == pytest.approx(max(seen))
        best = 2 * (1 + seen.index(max(seen)))
        kept = {path.name for path in (directory / "checkpoints").iterdir()}
        assert kept == {f"step_{best:08d}", "step_00000012"}
        assert model.config.id2label == {0: "finance", 1: "sport"}
        exports.append(logits_BC)
    torch.testing.assert_close(exports[0], exports[1], atol=1e-4, rtol=1e-4)


def test_patience_ends_a_stage_early(labelled: LabelledWorld, tmp_path: Path) -> None:
    directory = train(
        labelled,
        tmp_path,
        "patient",
        train=Train(steps=200, global_batch_size=8, micro_batch_size=4),
        selection=Selection(patience=3),
        cadence=Cadence(evaluate_every_n_steps=1, log_every_n_steps=1),
    )
    run_ranks(1, "tests.objectives.test_finetune:run_one_stage", str(directory))
    seen = evaluations(directory)
    assert len(seen) < 200
    assert len(seen) - 1 - seen.index(max(seen)) == 3
    assert (directory / "COMPLETE").exists()
