"""A student starts from its donor's first layers, pruned to its own sizes."""

import math

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from kd_dist.config.families import FAMILIES
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.models import Student
from kd_dist.models.pruned import obstacle, prune
from tests.conftest import LabelledWorld
from tests.models.random_models import random_classifier
from tests.objectives.builders import built, stage

BUILT_LIKE_BERT = sorted(name for name, family in FAMILIES.items() if family.layers == "encoder.layer")
NARROW = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
IDS = torch.tensor([[2, 17, 40, 3], [2, 9, 3, 0]])
MASK = (IDS != 0).long()


def encoder(family: str = "bert", **settings: object) -> torch.nn.Module:
    offset = {"pad_token_id": 1} if FAMILIES[family].offset_positions else {}
    wide = {"embedding_size": 16} if family == "electra" else {}
    return random_classifier(family, **offset, **wide, **settings).base_model


def states(model: torch.nn.Module) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=MASK, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("family", BUILT_LIKE_BERT)
def test_a_student_of_the_same_sizes_computes_what_the_first_layers_of_its_donor_compute(family: str) -> None:
    donor, student = encoder(family, seed=0), encoder(family, seed=1, num_hidden_layers=3)
    torch.testing.assert_close(prune(donor, student), torch.eye(16))
    for ours, theirs in zip(states(student), states(donor), strict=False):
        torch.testing.assert_close(ours, theirs)


def test_the_hidden_dimensions_kept_are_those_that_the_normalizations_let_through() -> None:
    donor, student = encoder(seed=0), encoder(seed=1, **NARROW)
    strong = torch.tensor([0, 3, 4, 7, 9, 10, 12, 15])
    norms = [donor.embeddings.LayerNorm]
    norms += [part.output.LayerNorm for layer in donor.encoder.layer[:2] for part in (layer.attention, layer)]
    for norm in norms:
        torch.nn.init.constant_(norm.weight, 0.1)
        norm.weight.data[strong] = -1.0  # a sign says nothing about the variance
    torch.nn.init.constant_(donor.encoder.layer[2].output.LayerNorm.weight, 9.0)  # a layer that is not taken
    selection = prune(donor, student)
    assert selection.argmax(dim=0).tolist() == strong.tolist()
    assert (selection.sum(dim=0) == 1).all()
    for name in ("word", "position", "token_type"):
        ours, theirs = (getattr(model.embeddings, f"{name}_embeddings").weight for model in (student, donor))
        torch.testing.assert_close(ours, theirs[:, strong])
    ours, theirs = (model.encoder.layer[1].output.LayerNorm for model in (student, donor))
    torch.testing.assert_close(ours.bias, theirs.bias[strong])


def test_scores_and_outputs_of_a_narrower_head_are_the_nearest_of_its_width() -> None:
    donor, student = encoder(seed=0), encoder(seed=1, **NARROW)
    kept = prune(donor, student).argmax(dim=0)
    ours, theirs = (model.encoder.layer[1].attention for model in (student, donor))
    inputs = torch.randn(5, 8)
    for head in range(2):
        wide, narrow = slice(8 * head, 8 * head + 8), slice(4 * head, 4 * head + 4)

        def of_donor(name: str, part: slice = wide) -> Tensor:
            linear = getattr(theirs.self, name)
            return torch.cat([linear.weight[part][:, kept].T, linear.bias[None, part]])

        def of_student(name: str, part: slice = narrow) -> Tensor:
            linear = getattr(ours.self, name)
            return inputs @ linear.weight[part].T + linear.bias[part]

        extended = torch.cat([inputs, torch.ones(5, 1)], dim=1)
        scores = extended @ _of_rank(of_donor("query") @ of_donor("key").T / math.sqrt(8), 4) @ extended.T
        torch.testing.assert_close(of_student("query") @ of_student("key").T / math.sqrt(4), scores)
        added = extended @ _of_rank(of_donor("value") @ theirs.output.dense.weight[kept][:, wide].T, 4)
        torch.testing.assert_close(of_student("value") @ ours.output.dense.weight[:, narrow].T, added)


def _of_rank(matrix: Tensor, rank: int) -> Tensor:
    left, sizes, right = torch.linalg.svd(matrix)
    return left[:, :rank] * sizes[:rank] @ right[:rank]


def test_of_more_heads_those_are_kept_that_add_most() -> None:
    donor, student = encoder(seed=0, num_attention_heads=4), encoder(seed=1, **NARROW)
    for layer in donor.encoder.layer:
        layer.attention.output.dense.weight.data[:, :4] *= 0.01  # head 0
        layer.attention.self.value.weight.data[8:12] *= 0.01  # head 2
        layer.attention.self.value.bias.data[8:12] *= 0.01
    kept = prune(donor, student).argmax(dim=0)
    for ours, theirs in zip(student.encoder.layer, donor.encoder.layer, strict=False):
        taken = torch.cat([theirs.attention.self.query.weight[4:8], theirs.attention.self.query.weight[12:16]])
        torch.testing.assert_close(ours.attention.self.query.weight, taken[:, kept])


def test_the_neurons_kept_are_those_with_the_largest_weights_in_and_out() -> None:
    donor, student = encoder(seed=0), encoder(seed=1, **NARROW)
    for layer in donor.encoder.layer:
        layer.intermediate.dense.weight.data[:10] *= 0.01
        layer.output.dense.weight.data[:, 22:] *= 0.01
    kept = prune(donor, student).argmax(dim=0)
    ours, theirs = (model.encoder.layer[0] for model in (student, donor))
    torch.testing.assert_close(ours.intermediate.dense.weight, theirs.intermediate.dense.weight[10:22][:, kept])
    torch.testing.assert_close(ours.intermediate.dense.bias, theirs.intermediate.dense.bias[10:22])
    torch.testing.assert_close(ours.output.dense.weight, theirs.output.dense.weight[kept][:, 10:22])


def bert(**settings: object) -> PretrainedConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    return AutoConfig.for_model("bert", **sizes | {"vocab_size": 100} | settings)


@pytest.mark.parametrize(
    ("donor", "student", "reason"),
    [
        (AutoConfig.for_model("albert"), bert(), "the donor is a `albert` model"),
        (bert(), AutoConfig.for_model("distilbert"), "the student is a `distilbert` model"),
        (bert(), bert(hidden_size=32), "it is wider"),
        (bert(), bert(num_hidden_layers=5), "it has more layers (5) than the donor (4)"),
        (bert(), bert(num_attention_heads=4), "it has more heads"),
        (bert(), bert(intermediate_size=33), "it has more neurons"),
        (bert(num_attention_heads=4), bert(), "its heads are wider (8) than those of the donor (4)"),
        (bert(), bert(hidden_act="relu"), "its activation is relu"),
    ],
)
def test_what_cannot_be_pruned_is_named(donor: PretrainedConfig, student: PretrainedConfig, reason: str) -> None:
    found = obstacle(donor, student)
    assert found is not None
    assert reason in found
    assert obstacle(bert(), bert(**NARROW)) is None


def test_a_student_and_its_projections_start_from_the_teacher(labelled: LabelledWorld) -> None:
    method = built(stage(labelled, TinyBertObjective()))
    selection = method.projections["layers"].weight
    assert (selection.sum(dim=0) == 1).all()
    assert not method.projections["layers"].bias.any()
    assert Student().init == "pruned"
