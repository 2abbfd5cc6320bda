"""TinyBERT's layer distillation equals its published formula, and padding changes nothing."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.models import Student
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.models.attention import capture_attention
from kd_dist.models.students import random_model
from kd_dist.models.teacher import Teacher
from kd_dist.objectives.base import build
from kd_dist.objectives.tinybert import TinyBert
from tests.conftest import LabelledWorld, TinyWorld
from tests.objectives.builders import built, stage

CPU = torch.device("cpu")


def objective(tiny: TinyWorld, **settings: object) -> TinyBert:
    torch.manual_seed(0)
    student = random_model(MODEL_MAPPING, AutoConfig.from_pretrained(tiny.student))
    built = TinyBert(student, AutoConfig.from_pretrained(tiny.teacher), TinyBertObjective(**settings))
    return built.eval()


def means(method: TinyBert, teacher: Teacher, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    counts = method.counts(batch)
    return {term: float(value) / counts[term] for term, value in method(batch, teacher(batch)).sums.items()}


def teacher_of(tiny: TinyWorld, method: TinyBert) -> Teacher:
    return Teacher(str(tiny.teacher), method.wanted(), precision="fp32", device=CPU)


def eager(path: object, batch: dict[str, torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """All hidden states and all pre-softmax scores of a model, from its own weights by the plain formula."""
    model = AutoModel.from_pretrained(path).eval() if not isinstance(path, nn.Module) else path
    with torch.no_grad():
        hidden = model(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states
        scores = []
        for layer, states in zip(model.encoder.layer, hidden, strict=False):
            attention = layer.attention.self
            heads, size = attention.num_attention_heads, attention.attention_head_size
            query, key = (
                project(states).view(*states.shape[:2], heads, size).transpose(1, 2)
                for project in (attention.query, attention.key)
            )
            scores.append(query @ key.transpose(2, 3) / math.sqrt(size))
    return list(hidden), scores


@pytest.mark.parametrize("layer_map", [None, [3, 1]])
def test_terms_equal_the_formula_over_the_valid_positions(
    tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor], layer_map: list[int] | None
) -> None:
    method = objective(tiny, layer_map=layer_map, attention="raw", units="absolute")
    layers = layer_map or [1, 3]  # 2 layers spread over 3
    hidden_s, scores_s = eager(method.student, corpus_batch)
    hidden_t, scores_t = eager(tiny.teacher, corpus_batch)
    mask = corpus_batch["attention_mask"].bool()
    pairs = (mask[:, None, :, None] & mask[:, None, None, :]).expand_as(scores_s[0])
    expected = {"attention": 0.0, "hidden": 0.0, "embeddings": 0.0}
    for index, layer in enumerate(layers):
        expected["attention"] += float(((scores_s[index] - scores_t[layer - 1])[pairs] ** 2).mean())
        projected = method.projections["layers"](hidden_s[index + 1])
        expected["hidden"] += float(((projected - hidden_t[layer])[mask] ** 2).mean())
    projected = method.projections["embeddings"](hidden_s[0])
    expected["embeddings"] = float(((projected - hidden_t[0])[mask] ** 2).mean())
    assert means(method, teacher_of(tiny, method), corpus_batch) == pytest.approx(expected, rel=1e-4)


def test_compat_huawei_equals_the_published_reduction(tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor]) -> None:
    method = objective(tiny, compat="huawei", projection="shared")
    hidden_s, scores_s = eager(method.student, corpus_batch)
    hidden_t, scores_t = eager(tiny.teacher, corpus_batch)
    bias = (1.0 - corpus_batch["attention_mask"][:, None, None, :]) * -10000.0

    def cleaned(scores: torch.Tensor) -> torch.Tensor:
        return torch.where(scores + bias <= -1e2, 0.0, scores + bias)

    mse, project = nn.functional.mse_loss, method.projections["all"]
    attention = sum(mse(cleaned(scores_s[i]), cleaned(scores_t[layer - 1])) for i, layer in enumerate([1, 3]))
    hidden = sum(mse(project(hidden_s[i + 1]), hidden_t[layer]) for i, layer in enumerate([1, 3]))
    found = means(method, teacher_of(tiny, method), corpus_batch)
    assert found["attention"] == pytest.approx(float(attention), rel=1e-4)
    assert found["hidden"] == pytest.approx(float(hidden), rel=1e-4)
    assert found["embeddings"] == pytest.approx(float(mse(project(hidden_s[0]), hidden_t[0])), rel=1e-4)


def test_padding_changes_no_term(tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor]) -> None:
    method = objective(tiny)
    teacher = teacher_of(tiny, method)
    wider = {name: nn.functional.pad(tensor, (0, 9)) for name, tensor in corpus_batch.items()}
    wider["input_ids"][:, -9:] = 5  # whatever stands there
    assert means(method, teacher, wider) == pytest.approx(means(method, teacher, corpus_batch), rel=1e-4)


def test_a_student_equal_to_its_teacher_has_no_loss(tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor]) -> None:
    student = AutoModel.from_pretrained(tiny.teacher)
    capture_attention(student)
    method = TinyBert(student, student.config, TinyBertObjective()).eval()
    for projection in method.projections.values():
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
    assert means(method, teacher_of(tiny, method), corpus_batch) == pytest.approx(
        {"attention": 0, "hidden": 0, "embeddings": 0}, abs=1e-6
    )


@pytest.mark.parametrize(
    ("projection", "names"),
    [
        ("shared", {"all"}),
        ("paper", {"embeddings", "layers"}),
        ("per_layer", {"layer_0", "layer_1", "layer_2"}),
    ],
)
def test_projections(tiny: TinyWorld, projection: str, names: set[str]) -> None:
    assert set(objective(tiny, projection=projection).projections) == names


def test_projections_of_another_shape_start_anew_and_that_is_said(
    tiny: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    saved, other = objective(tiny, projection="shared"), objective(tiny, projection="per_layer")
    saved.save_extras(tmp_path)
    before = {name: tensor.clone() for name, tensor in other.projections.state_dict().items()}
    other.load_extras(tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.projections.state_dict().items())
    assert f"note: {tmp_path / 'projections.safetensors'} is for other widths" in capsys.readouterr().out
    with torch.no_grad():
        saved.projections["all"].bias += 1
    saved.save_extras(tmp_path)
    again = objective(tiny, projection="shared")
    again.load_extras(tmp_path)
    assert torch.equal(again.projections["all"].bias, saved.projections["all"].bias)
    assert capsys.readouterr().out == ""


def test_a_term_of_weight_zero_is_not_computed(tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor]) -> None:
    method = objective(tiny, attention_weight=0, embeddings_weight=0)
    assert method.wanted().attention == frozenset()
    assert method.wanted().hidden_states == {1, 3}
    assert set(method.counts(corpus_batch)) == {"hidden"}


def test_the_teacher_is_frozen_in_eval_mode_and_stops_at_the_last_layer_that_is_needed(tiny: TinyWorld) -> None:
    method = objective(tiny, layer_map=[1, 2])
    teacher = teacher_of(tiny, method)
    method.train()
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert len(teacher.model.encoder.layer) == 2


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


def test_relative_terms_are_shares_of_the_teachers_variance(
    tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor]
) -> None:
    plain = objective(tiny, attention="raw", units="absolute", layer_map=[2, 3])
    relative = objective(tiny, attention="raw", layer_map=[2, 3])
    teacher = teacher_of(tiny, relative)
    relative.observe([(corpus_batch, teacher(corpus_batch))])
    hidden_t, scores_t = eager(tiny.teacher, corpus_batch)
    mask = corpus_batch["attention_mask"].bool()
    pairs = (mask[:, None, :, None] & mask[:, None, None, :]).expand_as(scores_t[0])
    hidden = [hidden_t[layer][mask].var(dim=0, unbiased=False).mean() for layer in (0, 2, 3)]
    scores = [scores_t[layer - 1][pairs].var(unbiased=False) for layer in (2, 3)]
    torch.testing.assert_close(relative.hidden_variances_L, torch.stack(hidden), rtol=1e-4, atol=0)
    torch.testing.assert_close(relative.attention_variances_L, torch.stack(scores), rtol=1e-4, atol=0)
    found, absolute = (means(method, teacher, corpus_batch) for method in (relative, plain))
    assert found["embeddings"] == pytest.approx(absolute["embeddings"] / float(hidden[0]), rel=1e-4)
    plain.observe([(corpus_batch, teacher(corpus_batch))])
    assert means(plain, teacher, corpus_batch) == absolute


def test_a_student_that_gives_the_teachers_mean_has_a_relative_error_of_one(
    tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor]
) -> None:
    method = objective(tiny, attention="none")
    teacher = teacher_of(tiny, method)
    method.observe([(corpus_batch, teacher(corpus_batch))])
    target, mask = teacher(corpus_batch).hidden_states[0], corpus_batch["attention_mask"].bool()
    with torch.no_grad():
        method.projections["embeddings"].weight.zero_()
        method.projections["embeddings"].bias.copy_(target[mask].mean(dim=0))
    assert means(method, teacher, corpus_batch)["embeddings"] == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("how_many", [1, 4])
def test_the_variances_do_not_depend_on_batches_or_padding(
    tiny: TinyWorld, corpus_batch: dict[str, torch.Tensor], how_many: int
) -> None:
    whole, cut = objective(tiny), objective(tiny)
    teacher = teacher_of(tiny, whole)
    whole.observe([(corpus_batch, teacher(corpus_batch))])
    wider = {name: nn.functional.pad(tensor, (0, 5)) for name, tensor in corpus_batch.items()}
    pieces = zip(*(tensor.chunk(how_many) for tensor in wider.values()), strict=True)
    batches = [dict(zip(wider, piece, strict=True)) for piece in pieces]
    cut.observe([(batch, teacher(batch)) for batch in batches])
    torch.testing.assert_close(cut.hidden_variances_L, whole.hidden_variances_L, rtol=1e-4, atol=0)
    torch.testing.assert_close(cut.attention_variances_L, whole.attention_variances_L, rtol=1e-4, atol=0)
    assert cut.state_dict().keys() >= {"attention_variances_L", "hidden_variances_L"}  # so checkpoints hold them


def test_attention_can_be_left_out_and_compat_means_the_published_scores() -> None:
    assert TinyBertObjective(attention="none").weights()["attention"] == 0
    published = TinyBertObjective(compat="huawei")
    assert (published.attention_form(), published.is_relative()) == ("raw", False)
