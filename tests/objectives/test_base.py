"""Objectives equal their published formulas, and padding changes nothing."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING

from kd_dist.config.families import FAMILIES
from kd_dist.config.objectives.mlm import MlmObjective
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.data.token_rows import TokenRows
from kd_dist.models.attention import SUPPORTED_FAMILIES, capture_attention
from kd_dist.models.students import random_model
from kd_dist.models.teacher import Teacher
from kd_dist.objectives.mlm import MaskedLanguageModel
from kd_dist.objectives.tinybert import TinyBert
from tests.conftest import TinyWorld

CPU = torch.device("cpu")


@pytest.fixture
def batch(tiny: TinyWorld) -> dict[str, torch.Tensor]:
    rows = TokenRows(tiny.tokens, "train", 0)
    shortest, longest = int(rows.lengths.argmin()), int(rows.lengths.argmax())
    return rows.collate(np.array([shortest, longest, 3, 4]))


def objective(tiny: TinyWorld, **settings: object) -> TinyBert:
    torch.manual_seed(0)
    student = random_model(MODEL_MAPPING, AutoConfig.from_pretrained(tiny.student))
    built = TinyBert(student, AutoConfig.from_pretrained(tiny.teacher), TinyBertObjective(**settings))  # type: ignore[arg-type]
    return built.eval()


def means(method: TinyBert, teacher: Teacher, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    counts = method.counts(batch)
    return {term: float(value) / counts[term] for term, value in method(batch, teacher(batch)).items()}


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
    tiny: TinyWorld, batch: dict[str, torch.Tensor], layer_map: list[int] | None
) -> None:
    method = objective(tiny, layer_map=layer_map)
    layers = layer_map or [1, 3]  # 2 layers spread over 3
    hidden_s, scores_s = eager(method.student, batch)
    hidden_t, scores_t = eager(tiny.teacher, batch)
    mask = batch["attention_mask"].bool()
    pairs = (mask[:, None, :, None] & mask[:, None, None, :]).expand_as(scores_s[0])
    expected = {"attention": 0.0, "hidden": 0.0, "embeddings": 0.0}
    for index, layer in enumerate(layers):
        expected["attention"] += float(((scores_s[index] - scores_t[layer - 1])[pairs] ** 2).mean())
        projected = method.projections["layers"](hidden_s[index + 1])
        expected["hidden"] += float(((projected - hidden_t[layer])[mask] ** 2).mean())
    projected = method.projections["embeddings"](hidden_s[0])
    expected["embeddings"] = float(((projected - hidden_t[0])[mask] ** 2).mean())
    assert means(method, teacher_of(tiny, method), batch) == pytest.approx(expected, rel=1e-4)


def test_compat_huawei_equals_the_published_reduction(tiny: TinyWorld, batch: dict[str, torch.Tensor]) -> None:
    method = objective(tiny, compat="huawei", projection="shared")
    hidden_s, scores_s = eager(method.student, batch)
    hidden_t, scores_t = eager(tiny.teacher, batch)
    bias = (1.0 - batch["attention_mask"][:, None, None, :]) * -10000.0

    def cleaned(scores: torch.Tensor) -> torch.Tensor:
        return torch.where(scores + bias <= -1e2, 0.0, scores + bias)

    mse, project = nn.functional.mse_loss, method.projections["all"]
    attention = sum(mse(cleaned(scores_s[i]), cleaned(scores_t[layer - 1])) for i, layer in enumerate([1, 3]))
    hidden = sum(mse(project(hidden_s[i + 1]), hidden_t[layer]) for i, layer in enumerate([1, 3]))
    found = means(method, teacher_of(tiny, method), batch)
    assert found["attention"] == pytest.approx(float(attention), rel=1e-4)
    assert found["hidden"] == pytest.approx(float(hidden), rel=1e-4)
    assert found["embeddings"] == pytest.approx(float(mse(project(hidden_s[0]), hidden_t[0])), rel=1e-4)


def test_padding_changes_no_term(tiny: TinyWorld, batch: dict[str, torch.Tensor]) -> None:
    method = objective(tiny)
    teacher = teacher_of(tiny, method)
    wider = {name: nn.functional.pad(tensor, (0, 9)) for name, tensor in batch.items()}
    wider["input_ids"][:, -9:] = 5  # whatever stands there
    assert means(method, teacher, wider) == pytest.approx(means(method, teacher, batch), rel=1e-4)


def test_a_student_equal_to_its_teacher_has_no_loss(tiny: TinyWorld, batch: dict[str, torch.Tensor]) -> None:
    student = AutoModel.from_pretrained(tiny.teacher)
    capture_attention(student)
    method = TinyBert(student, student.config, TinyBertObjective()).eval()
    for projection in method.projections.values():
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
    assert means(method, teacher_of(tiny, method), batch) == pytest.approx(
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


def test_a_term_of_weight_zero_is_not_computed(tiny: TinyWorld, batch: dict[str, torch.Tensor]) -> None:
    method = objective(tiny, attention_weight=0, embeddings_weight=0)
    assert method.wanted().attention == frozenset()
    assert method.wanted().hidden_states == {1, 3}
    assert set(method.counts(batch)) == {"hidden"}


def test_the_teacher_is_frozen_in_eval_mode_and_stops_at_the_last_layer_that_is_needed(tiny: TinyWorld) -> None:
    method = objective(tiny, layer_map=[1, 2])
    teacher = teacher_of(tiny, method)
    method.train()
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert len(teacher.model.encoder.layer) == 2


def test_login_node_and_models_agree_on_the_families() -> None:
    assert set(FAMILIES) == SUPPORTED_FAMILIES


# ------------------------------------------------------------------------------------------- masked language modelling


@pytest.fixture
def mlm(tiny: TinyWorld) -> MaskedLanguageModel:
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(tiny.student)
    tokenizer = AutoTokenizer.from_pretrained(tiny.tokenizer)
    return MaskedLanguageModel(random_model(MODEL_FOR_MASKED_LM_MAPPING, config), MlmObjective(), tokenizer).eval()


def test_mlm_equals_the_cross_entropy_of_the_whole_model(
    mlm: MaskedLanguageModel, batch: dict[str, torch.Tensor]
) -> None:
    prepared = mlm.prepare(batch, seed=1)
    logits = mlm.student(prepared["input_ids"], prepared["attention_mask"]).logits
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), prepared["labels"].flatten(), ignore_index=-100)
    found = mlm(prepared, None)["mlm"] / mlm.counts(prepared)["mlm"]
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_masking_is_decided_by_the_seed_and_spares_special_tokens(
    mlm: MaskedLanguageModel, batch: dict[str, torch.Tensor]
) -> None:
    first, again, other = (mlm.prepare(batch, seed)["labels"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    special = batch["input_ids"] < 5
    assert (first[special] == -100).all()


def test_shares_of_masked_replaced_and_kept_tokens(mlm: MaskedLanguageModel) -> None:
    ids = torch.full((200, 200), 77)
    prepared = mlm.prepare({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, seed=3)
    chosen = prepared["labels"] != -100
    assert float(chosen.float().mean()) == pytest.approx(0.15, abs=0.01)
    seen = prepared["input_ids"][chosen]
    mask_id = mlm._mask_id
    assert float((seen == mask_id).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((seen == 77).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert (prepared["input_ids"][~chosen] == 77).all()


def test_whole_words_are_masked_together(tiny: TinyWorld, mlm: MaskedLanguageModel) -> None:
    mlm._settings = MlmObjective(whole_word_masking=True)
    rows = TokenRows(tiny.tokens, "train", 0)
    batch = rows.collate(np.arange(40))
    chosen = mlm.prepare(batch, seed=1)["labels"] != -100
    word = batch["word_starts"].long().cumsum(1)
    special = batch["input_ids"] < 5
    for row in range(40):
        for number in word[row].unique():
            members = (word[row] == number) & ~special[row] & batch["attention_mask"][row].bool()
            assert chosen[row][members].float().mean() in (0.0, 1.0) or not members.any()
    assert chosen.any()
