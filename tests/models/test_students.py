"""The model that a stage trains is what its settings describe."""

from functools import reduce
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from kd_dist.config.families import ALL_FAMILIES, FAMILIES
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.models import Student
from kd_dist.models.attention import SUPPORTED_FAMILIES
from kd_dist.models.students import _from_layers, output_layer
from tests.conftest import LabelledWorld
from tests.models.random_models import random_classifier, random_inputs
from tests.objectives.builders import built, stage


@pytest.mark.parametrize("family", [*ALL_FAMILIES, "gpt2", "mpnet"])
def test_the_output_layer_is_what_gives_the_logits(family: str) -> None:
    model, inputs = random_classifier(family, num_labels=3), random_inputs([7, 5])
    with torch.no_grad():
        before = model(**inputs).logits
        head = output_layer(model)
        head.bias = torch.nn.Parameter(torch.tensor([0.0, 1.0, -2.0]) + (0.0 if head.bias is None else head.bias))
        torch.testing.assert_close(model(**inputs).logits, before + torch.tensor([0.0, 1.0, -2.0]))


def test_a_student_starts_from_teacher_layers(labelled: LabelledWorld) -> None:
    student = Student(teacher_layers=[1, 3])
    method = built(stage(labelled, TinyBertObjective(), student=student))
    whole = AutoModelForSequenceClassification.from_pretrained(labelled.teacher)
    assert method.student.config.num_hidden_layers == 2
    for mine, its in ((0, 0), (1, 2)):
        ours, theirs = method.student.encoder.layer[mine], whole.base_model.encoder.layer[its]
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value)


@pytest.mark.parametrize("family", sorted(ALL_FAMILIES.keys() - {"albert"}))  # whose layers are one
def test_layers_are_taken_from_where_every_family_has_them(family: str, tmp_path: Path) -> None:
    whole = random_classifier(family)
    whole.save_pretrained(tmp_path)
    student = _from_layers(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, str(tmp_path), [1, 4], {})
    facts = ALL_FAMILIES[family]
    ours, theirs = (reduce(getattr, facts.layers.split("."), model.base_model) for model in (student, whole))
    assert (len(ours), len(theirs)) == (2, 4)
    for own, its in ((ours[0], theirs[0]), (ours[1], theirs[3])):
        torch.testing.assert_close(dict(own.named_parameters()), dict(its.named_parameters()))


def test_login_node_and_models_agree_on_the_families() -> None:
    assert set(FAMILIES) == SUPPORTED_FAMILIES
