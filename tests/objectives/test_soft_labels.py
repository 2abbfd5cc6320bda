"""Distillation of the prediction equals its formula; the teacher's labels are matched by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel

from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.sections.models import Student
from kd_dist.config.tasks import Task
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import PreparedRows, write_own_words
from kd_dist.models.projected import principal_directions
from kd_dist.models.teacher import Teacher
from kd_dist.objectives.soft_labels import SoftLabels
from tests.conftest import LabelledWorld
from tests.models.random_models import random_inputs
from tests.models.recurrent_models import random_recurrent, write_recurrent_config
from tests.objectives.builders import built, stage


def test_soft_labels_compare_with_the_teacher_and_padding_changes_nothing(
    labelled: LabelledWorld, labelled_batch: dict[str, torch.Tensor]
) -> None:
    settings = SoftLabelsObjective(temperature=2.0, hard_weight=0.5, logits_weight=0.1)
    method = built(stage(labelled, settings))
    teacher = Teacher(str(labelled.teacher), method.wanted(), precision="fp32", device=torch.device("cpu"))
    (sums, logits_BC), targets = method(labelled_batch, teacher(labelled_batch)), teacher(labelled_batch).logits
    soft = -4 * ((targets / 2).softmax(1) * (logits_BC / 2).log_softmax(1)).sum(1).mean()
    counts = method.counts(labelled_batch)
    torch.testing.assert_close(sums["soft"] / counts["soft"], soft)
    torch.testing.assert_close(sums["logits"] / counts["logits"], nn.functional.mse_loss(logits_BC, targets))
    torch.testing.assert_close(
        sums["hard"] / counts["hard"], nn.functional.cross_entropy(logits_BC, labelled_batch["labels"])
    )
    wider = {name: nn.functional.pad(t, (0, 5)) if t.ndim == 2 else t for name, t in labelled_batch.items()}
    for term, value in method(wider, teacher(wider)).sums.items():
        torch.testing.assert_close(value, sums[term], atol=1e-4, rtol=1e-5)


def test_a_row_without_a_label_counts_among_the_rows_and_adds_nothing(
    labelled: LabelledWorld, labelled_batch: dict[str, torch.Tensor]
) -> None:
    method = built(stage(labelled, SoftLabelsObjective(hard_weight=1.0)))
    labels = labelled_batch["labels"].clone()
    labels[1:] = -100
    batch = labelled_batch | {"labels": labels, "teacher_logits": torch.zeros(len(labels), 2)}
    sums, logits_BC = method(batch, None)
    own = nn.functional.cross_entropy(logits_BC[:1], labels[:1])
    torch.testing.assert_close(sums["hard"] / method.counts(batch)["hard"], own / len(labels))


def test_the_trained_teacher_and_its_order_of_labels_are_what_is_distilled(
    labelled: LabelledWorld, labelled_batch: dict[str, torch.Tensor]
) -> None:
    config = json.loads((labelled.teacher / "config.json").read_text())
    swapped = {name: 1 - number for name, number in config["label2id"].items()}
    wanted = built(stage(labelled, SoftLabelsObjective())).wanted()
    plain = Teacher(str(labelled.teacher), wanted, precision="fp32", device=torch.device("cpu"))
    mapped = Teacher(str(labelled.teacher), wanted, precision="fp32", device=torch.device("cpu"), label2id=swapped)
    torch.testing.assert_close(mapped(labelled_batch).logits, plain(labelled_batch).logits.flip(1))


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_labels_and_logits_have_the_weights_of_the_formula(task: Task) -> None:
    """The loss of Tang et al. 2019: alpha x cross-entropy + (1 - alpha) x mean squared error of the logits."""
    alpha = 0.3
    settings = SoftLabelsObjective(soft_weight=0.0, hard_weight=alpha, logits_weight=1 - alpha)
    labels = Labels(task, {"a": 0, "b": 1, "c": 2})
    model = random_recurrent()
    method = SoftLabels(model, labels, settings, teacher_runs=False)
    truth = torch.tensor([2, 0, 1]) if task == "single_label" else torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1]])
    batch = random_inputs([7, 4, 2]) | {"labels": truth, "teacher_logits": torch.randn(3, 3)}
    sums, logits_BC = method(batch, None)
    counts, weights = method.counts(batch), settings.weights()
    loss = sum(weights[term] * sums[term] / counts[term] for term in sums)
    hard = nn.functional.cross_entropy if task == "single_label" else nn.functional.binary_cross_entropy_with_logits
    distance = nn.functional.mse_loss(logits_BC, batch["teacher_logits"])
    torch.testing.assert_close(loss, alpha * hard(logits_BC, truth) + (1 - alpha) * distance)


@pytest.mark.parametrize("width", [32, 12])
def test_a_recurrent_student_starts_from_the_embeddings_of_its_teacher(
    labelled: LabelledWorld, tmp_path: Path, width: int
) -> None:
    """They are the teacher's own where it is as wide, and their principal components where it is wider."""
    student = Student(config=str(write_recurrent_config(tmp_path, embedding_size=width)))
    method = built(stage(labelled, SoftLabelsObjective(), student=student))
    words = AutoModel.from_pretrained(labelled.teacher).embeddings.word_embeddings.weight
    expected = words if width == 32 else words @ principal_directions(words, width)
    torch.testing.assert_close(method.student.embeddings.weight, expected[: len(method.student.embeddings.weight)])
    assert method.student.config.problem_type == "single_label_classification"


@pytest.mark.parametrize("student_input", ["words", "sentence"])
def test_a_student_of_words_starts_from_their_vectors_and_is_as_wide(
    labelled: LabelledWorld, tmp_path: Path, student_input: str
) -> None:
    rows = shutil.copytree(labelled.tokens, tmp_path / "rows")
    vectors_VE = np.random.default_rng(0).random((PreparedRows(rows).statistics["vocabulary_size"], 7), np.float32)
    write_own_words(rows, rows / "tokenizer", vectors_VE)
    student = Student(config=str(write_recurrent_config(tmp_path, embedding_size=12)), input=student_input)
    told = stage(labelled, SoftLabelsObjective(), student=student)
    model = built(told.model_copy(update={"data": told.data.model_copy(update={"tokens": str(rows)})})).student
    assert model.embeddings.weight.tolist() == vectors_VE.tolist()
    assert model.config.embedding_size == model.norm.normalized_shape[0] == 7
    assert model.config.input == ("sentence" if student_input == "sentence" else "tokens")
    assert (model.config.sep_token_id is not None) == (student_input == "sentence")
