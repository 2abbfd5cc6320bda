"""A classifier of a family that is not in the table is refused where padding changes its predictions."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from kd_dist.errors import UserError
from kd_dist.models.loading import load_config, load_pretrained
from kd_dist.models.padding import _difference, _rows, refuse_dependence_on_padding
from tests.models.random_models import random_classifier


@pytest.mark.parametrize("kind", ["convbert", "fnet"])
def test_padding_that_counts_is_found(kind: str) -> None:
    with pytest.raises(UserError, match=f"DIR is a `{kind}` model, whose predictions change with the padding"):
        refuse_dependence_on_padding(random_classifier(kind, embedding_size=16), "DIR")


@pytest.mark.parametrize("kind", ["gpt2", "megatron-bert", "mpnet"])
def test_families_outside_the_table_are_fine_where_it_does_not(kind: str) -> None:
    model = random_classifier(kind).train()
    refuse_dependence_on_padding(model, "DIR")
    assert model.training


def test_it_does_not_count_in_half_precision() -> None:
    model = random_classifier("megatron-bert").to(torch.bfloat16)
    refuse_dependence_on_padding(model, "DIR")
    difference, size = _difference(model, _rows(model.config))
    assert difference < 0.1 * size  # what rounding may come to, and what padding would exceed
    assert model.dtype == torch.bfloat16


def test_a_model_that_cannot_classify_a_batch_says_why() -> None:
    with pytest.raises(UserError, match="cannot classify a batch .* no padding token is defined"):
        refuse_dependence_on_padding(random_classifier("gpt2", pad_token_id=None), "DIR")


@pytest.mark.parametrize("kind", ["fnet", "gpt2"])
def test_models_are_tried_when_they_are_loaded(kind: str, tmp_path: Path) -> None:
    random_classifier(kind).save_pretrained(tmp_path)
    if kind == "gpt2":
        assert isinstance(loaded(tmp_path), PreTrainedModel)
    else:
        with pytest.raises(UserError, match="padding"):
            loaded(tmp_path)


def loaded(folder: Path) -> PreTrainedModel:
    config = load_config(folder)
    return load_pretrained(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, str(folder), config).model
