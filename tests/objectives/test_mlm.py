"""Masked language modelling equals its formula, and masking is decided by the seed."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from kd_dist.config.objectives.mlm import MlmObjective
from kd_dist.data.token_rows import TokenRows
from kd_dist.models.students import random_model
from kd_dist.objectives.mlm import MaskedLanguageModel
from tests.conftest import TinyWorld


@pytest.fixture
def mlm(tiny: TinyWorld) -> MaskedLanguageModel:
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(tiny.student)
    tokenizer = AutoTokenizer.from_pretrained(tiny.tokenizer)
    return MaskedLanguageModel(random_model(MODEL_FOR_MASKED_LM_MAPPING, config), MlmObjective(), tokenizer).eval()


def test_mlm_equals_the_cross_entropy_of_the_whole_model(
    mlm: MaskedLanguageModel, corpus_batch: dict[str, torch.Tensor]
) -> None:
    prepared = mlm.prepare(corpus_batch, seed=1)
    logits = mlm.student(prepared["input_ids"], prepared["attention_mask"]).logits
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), prepared["labels"].flatten(), ignore_index=-100)
    found = mlm(prepared, None).sums["mlm"] / mlm.counts(prepared)["mlm"]
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_masking_is_decided_by_the_seed_and_spares_special_tokens(
    mlm: MaskedLanguageModel, corpus_batch: dict[str, torch.Tensor]
) -> None:
    first, again, other = (mlm.prepare(corpus_batch, seed)["labels"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    special = corpus_batch["input_ids"] < 5
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
