"""The model that a stage trains is what its settings describe."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from kd_dist.config.families import FAMILIES
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.models import Student
from kd_dist.models.attention import SUPPORTED_FAMILIES
from kd_dist.models.students import output_layer
from tests.conftest import LabelledWorld
from tests.models.random_models import random_classifier, random_inputs
from tests.objectives.builders import built, stage


@pytest.mark.parametrize("family", FAMILIES)
def test_the_output_layer_is_what_gives_the_logits(family: str) -> None:
    model, inputs = random_classifier(family, num_labels=3), random_inputs([7, 5])
    with torch.no_grad():
        before = model(**inputs).logits
        output_layer(model).bias += torch.tensor([0.0, 1.0, -2.0])
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


def test_login_node_and_models_agree_on_the_families() -> None:
    assert set(FAMILIES) == SUPPORTED_FAMILIES
