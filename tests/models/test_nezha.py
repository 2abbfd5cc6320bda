"""NEZHA is what transformers 4.40.2 had, which `nezha_golden.json` was computed with (see `nezha_golden.py`)."""

import json
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from kd_dist.models import loading
from kd_dist.models.nezha import relative_positions
from tests.models.nezha_golden import CONFIG, FILE, IDS, fill, inputs

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))
assert loading  # makes NEZHA known to transformers


def model_of(mapping: Any, **settings: Any) -> Any:
    return fill(mapping.from_config(AutoConfig.for_model("nezha", **CONFIG, **settings)))


@torch.no_grad()
def test_the_encoder_computes_what_transformers_4_computed() -> None:
    outputs = model_of(AutoModel)(**inputs(), output_hidden_states=True)
    valid_BS = inputs()["attention_mask"].bool()
    torch.testing.assert_close(outputs.last_hidden_state[valid_BS], golden("last_hidden_state")[valid_BS])
    torch.testing.assert_close(outputs.pooler_output, golden("pooler_output"))
    assert len(outputs.hidden_states) == 3


@torch.no_grad()
def test_both_heads_compute_what_transformers_4_computed() -> None:
    torch.testing.assert_close(model_of(AutoModelForSequenceClassification)(**inputs()).logits, golden("logits"))
    torch.testing.assert_close(model_of(AutoModelForMaskedLM)(**inputs()).logits[:, :2], golden("masked"))


def golden(name: str) -> torch.Tensor:
    return torch.tensor(GOLDEN[name])


def test_tensors_have_the_names_of_transformers_4() -> None:
    tensors = model_of(AutoModelForSequenceClassification).state_dict()
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == GOLDEN["tensors"]


def test_distances_beyond_the_largest_count_as_that() -> None:
    vectors_SSK = relative_positions(6, 2, 4, torch.ones(1))
    assert vectors_SSK.shape == (6, 6, 4)
    torch.testing.assert_close(vectors_SSK[0, 2], vectors_SSK[0, 5])
    torch.testing.assert_close(vectors_SSK[1, 0], vectors_SSK[5, 4])
    assert not torch.equal(vectors_SSK[0, 1], vectors_SSK[0, 2])
    assert not torch.equal(vectors_SSK[0, 1], vectors_SSK[1, 0])


def test_there_is_no_longest_text() -> None:
    ids = torch.tensor(IDS[0] * 4)[None]  # more than max_position_embeddings
    assert model_of(AutoModel)(ids).last_hidden_state.shape == (1, 36, 8)


def test_layers_can_be_recomputed_in_backward() -> None:
    model = model_of(AutoModelForSequenceClassification).train()
    torch.manual_seed(0)
    model(**inputs()).logits.sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": False})
    torch.manual_seed(0)
    model(**inputs()).logits.sum().backward()
    torch.testing.assert_close([p.grad for p in model.parameters() if p.grad is not None], expected)


def test_attention_without_relative_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="NezhaModel does not support"):
        AutoModel.from_config(AutoConfig.for_model("nezha", **CONFIG), attn_implementation="sdpa")
