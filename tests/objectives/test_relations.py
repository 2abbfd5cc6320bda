"""MiniLMv2's objective compares queries, keys and values of the right layers, whatever the heads and widths."""

import pytest
import torch
from transformers import AutoConfig, AutoModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from kd_dist.config.objectives.relations import RelationsObjective
from kd_dist.models.students import random_model
from kd_dist.models.teacher import Teacher
from kd_dist.objectives.relation_losses import relation_divergence
from kd_dist.objectives.relations import Relations
from tests.conftest import TinyWorld


def objective(tiny: TinyWorld, **settings: object) -> Relations:
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(tiny.student)
    config.num_attention_heads = 3  # the teacher has 4
    student = random_model(MODEL_MAPPING, config)
    return Relations(student, AutoConfig.from_pretrained(tiny.teacher), RelationsObjective(**settings)).eval()


def factors(model: torch.nn.Module, layer: int, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Queries, keys and values of a layer from its own weights."""
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states[layer - 1]
        attention = model.encoder.layer[layer - 1].attention.self
        return {
            "queries": attention.query(states),
            "keys": attention.key(states),
            "values": attention.value(states),
        }


@pytest.mark.parametrize(("layer", "heads"), [(None, None), (2, 4)])
def test_terms_compare_the_last_layer_with_the_chosen_one(
    tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor], layer: int | None, heads: int | None
) -> None:
    method = objective(tiny, teacher_layer=layer, relation_heads=heads)
    teacher = Teacher(str(tiny.teacher), method.wanted(), precision="fp32", device=torch.device("cpu"))
    inputs = {name: corpus_batch[name] for name in ("input_ids", "attention_mask")}
    own = factors(method.student, 2, inputs)
    target = factors(AutoModel.from_pretrained(tiny.teacher).eval(), layer or 3, inputs)
    number = heads or 8  # the most that divide 32 and 24
    expected = {
        term: float(relation_divergence(own[term], target[term], inputs["attention_mask"], number)) for term in own
    }
    outcome = method(corpus_batch, teacher(corpus_batch))
    assert {term: float(value.detach()) for term, value in outcome.sums.items()} == pytest.approx(expected, rel=1e-4)
    assert method.counts(corpus_batch) == dict.fromkeys(expected, float(inputs["attention_mask"].sum()) * number)


def test_a_student_learns_the_relations(tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor]) -> None:
    method = objective(tiny)
    teacher = Teacher(str(tiny.teacher), method.wanted(), precision="fp32", device=torch.device("cpu"))(corpus_batch)
    optimizer, losses = torch.optim.Adam(method.parameters(), lr=5e-3), []
    for _ in range(30):
        loss = torch.stack(list(method(corpus_batch, teacher).sums.values())).sum()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_a_term_of_weight_0_is_not_computed(tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor]) -> None:
    assert list(objective(tiny, keys_weight=0).counts(corpus_batch)) == ["queries", "values"]


def test_heads_are_the_most_that_divide_both_widths() -> None:
    settings = RelationsObjective()
    assert [settings.heads(*widths) for widths in ((768, 384), (1024, 384), (768, 312), (384, 312))] == [48, 32, 24, 24]


def test_what_cannot_be_compared_is_refused_with_the_way_out() -> None:
    teacher, student = ({"hidden_size": width, "num_hidden_layers": 12} for width in (768, 312))
    assert RelationsObjective().architecture_problems(teacher, student) == []
    assert RelationsObjective(relation_heads=48, teacher_layer=21).architecture_problems(teacher, student) == [
        "objective.relation_heads=48 does not divide the widths of teacher (768) and student (312): set a divisor of "
        "24, such as 24",
        "objective.teacher_layer=21: the teacher's layers are 1 to 12",
    ]
    (problem,) = RelationsObjective(queries_weight=0, keys_weight=0, values_weight=0).problems(None)
    assert "nothing to learn" in problem
