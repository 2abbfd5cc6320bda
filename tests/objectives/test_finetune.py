"""Learning from labels equals its formula; a new head starts where it should."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.sections.data import LabelledData
from kd_dist.config.sections.models import Student
from kd_dist.data.labelled import prepare
from kd_dist.data.token_rows import TokenRows
from kd_dist.model_files.model_folders import task_of
from tests.conftest import LabelledWorld
from tests.objectives.builders import built, stage


def test_fine_tuning_is_the_cross_entropy_of_transformers(
    labelled: LabelledWorld, labelled_batch: dict[str, torch.Tensor]
) -> None:
    method = built(stage(labelled, FinetuneObjective(), student=None))
    model = AutoModelForSequenceClassification.from_pretrained(labelled.teacher).eval()
    fed = {name: labelled_batch[name] for name in ("input_ids", "attention_mask", "labels")}
    sums, logits_BC = method(labelled_batch, None)
    torch.testing.assert_close(sums["label"] / method.counts(labelled_batch)["label"], model(**fed).loss)
    torch.testing.assert_close(logits_BC, model(**fed).logits)


def test_balanced_weights_are_inverse_to_the_rows_of_a_class(
    labelled: LabelledWorld, labelled_batch: dict[str, torch.Tensor]
) -> None:
    method = built(stage(labelled, FinetuneObjective(class_weights="balanced")))
    counts = np.bincount(TokenRows(labelled.tokens, "train", 0).collate(np.arange(60))["labels"], minlength=2)
    weights = torch.tensor(60 / (2 * counts), dtype=torch.float32)
    sums, logits_BC = method(labelled_batch, None)
    expected = nn.functional.cross_entropy(logits_BC, labelled_batch["labels"], weight=weights)
    torch.testing.assert_close(sums["label"] / method.counts(labelled_batch)["label"], expected)


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


def test_the_model_says_what_its_labels_are(labelled: LabelledWorld, several: LabelledWorld) -> None:
    """Its learning rate follows from that."""
    tasks = [task_of(built(stage(rows, FinetuneObjective())).student.config.to_dict()) for rows in (labelled, several)]
    assert tasks == ["single_label", "multi_label"]


def test_a_new_head_for_one_label_prefers_none(labelled: LabelledWorld) -> None:
    assert not built(stage(labelled, FinetuneObjective())).student.classifier.bias.any()
