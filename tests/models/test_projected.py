"""A student's embeddings start from its donor's, projected onto the principal directions of its words."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig

from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.models import Donor, Student
from kd_dist.models.projected import obstacle, principal_directions, project
from tests.conftest import LabelledWorld
from tests.models.random_models import random_classifier
from tests.objectives.builders import built, stage


def encoder(family: str, width: int, **settings: object) -> torch.nn.Module:
    return random_classifier(family, hidden_size=width, **settings).base_model


def config_of(width: int, vocabulary: int = 100, **settings: object) -> PretrainedConfig:
    return AutoConfig.for_model("bert", hidden_size=width, vocab_size=vocabulary, **settings)


def test_the_directions_are_those_of_the_largest_variance() -> None:
    torch.manual_seed(0)
    axes = torch.linalg.qr(torch.randn(6, 6)).Q
    words = torch.randn(5000, 6) * torch.tensor([5.0, 4.0, 3.0, 0.2, 0.1, 0.05]) @ axes.T + 7.0
    found = principal_directions(words, 3)
    torch.testing.assert_close(found.T @ found, torch.eye(3))
    torch.testing.assert_close((found.T @ axes[:, :3]).abs(), torch.eye(3), atol=0.05, rtol=0)
    assert (found.gather(0, found.abs().argmax(0, keepdim=True)) > 0).all()  # the sign is fixed


def test_all_directions_are_the_axes_so_that_embeddings_are_copied() -> None:
    donor, student = encoder("bert", 16, seed=0), encoder("bert", 16, seed=1)
    project(donor, student)
    for name in ("word", "position", "token_type"):
        ours, theirs = (getattr(model.embeddings, f"{name}_embeddings").weight for model in (student, donor))
        torch.testing.assert_close(ours, theirs)


def test_words_positions_and_types_are_projected_onto_the_same_directions() -> None:
    donor, student = encoder("bert", 16, seed=0), encoder("bert", 8, seed=1)
    project(donor, student)
    directions = principal_directions(donor.embeddings.word_embeddings.weight, 8)
    for name in ("word", "position", "token_type"):
        ours, theirs = (getattr(model.embeddings, f"{name}_embeddings").weight for model in (student, donor))
        torch.testing.assert_close(ours, theirs @ directions)


@pytest.mark.parametrize(("family", "first"), [("roberta", 2), ("xlm-roberta", 2), ("distilbert", 0), ("ernie", 0)])
def test_the_first_position_of_a_text_is_that_of_the_donors_family(family: str, first: int) -> None:
    settings = {"pad_token_id": 1} if first else {}
    donor, student = encoder(family, 16, **settings), encoder("bert", 8)
    project(donor, student)
    directions = principal_directions(donor.embeddings.word_embeddings.weight, 8)
    expected = donor.embeddings.position_embeddings.weight[first:] @ directions
    torch.testing.assert_close(student.embeddings.position_embeddings.weight[: len(expected)], expected)


@pytest.mark.parametrize(
    ("donor", "student", "reason"),
    [
        (config_of(16), config_of(32), "wider"),
        (config_of(16, vocabulary=50), config_of(8), "more tokens"),
        (config_of(16), AutoConfig.for_model("albert", hidden_size=8, embedding_size=4), "narrower"),
        (AutoConfig.for_model("electra", hidden_size=16, embedding_size=8), config_of(8), "narrower"),
    ],
)
def test_what_cannot_be_projected_is_named(donor: PretrainedConfig, student: PretrainedConfig, reason: str) -> None:
    found = obstacle(donor, student)
    assert found is not None
    assert reason in found
    assert obstacle(config_of(16), config_of(8)) is None


def test_a_student_and_its_projections_start_from_the_teachers_words(labelled: LabelledWorld) -> None:
    student = Student(config=str(labelled.student), init="projected")
    method = built(stage(labelled, TinyBertObjective(), student=student))
    words = AutoModel.from_pretrained(labelled.teacher).embeddings.word_embeddings.weight
    directions = principal_directions(words, method.student.config.hidden_size)
    torch.testing.assert_close(method.student.embeddings.word_embeddings.weight, (words @ directions)[: len(words)])
    for projection in method.projections.values():
        torch.testing.assert_close(projection.weight, directions)
        assert not projection.bias.any()


def test_random_weights_are_a_setting_and_a_donor_comes_before_the_teacher(labelled: LabelledWorld) -> None:
    words = AutoModel.from_pretrained(labelled.teacher).embeddings.word_embeddings.weight
    student = Student(config=str(labelled.student), init="random")
    own = built(stage(labelled, TinyBertObjective(), student=student)).student.embeddings.word_embeddings.weight
    assert not torch.allclose(own, words @ principal_directions(words, own.shape[1]))
    described = stage(labelled, TinyBertObjective(), donor=Donor(path="another"))
    assert described.initialized_from() == "another"
    assert described.models_fed()["donor.path"] == "another"
    assert described.model_copy(update={"student": Student(teacher_layers=[1])}).initialized_from() is None


def test_a_student_that_is_too_wide_starts_from_random_weights_and_that_is_said(
    labelled: LabelledWorld, capsys: pytest.CaptureFixture
) -> None:
    objective = TinyBertObjective(attention="none", layer_map=[1, 1, 2, 3])
    method = built(stage(labelled, objective, student=Student(config="bert_tiny_4l_128")))
    assert "starts from random weights" in capsys.readouterr().err
    assert method.projections["layers"].bias.any()  # initialized by chance, not from directions
