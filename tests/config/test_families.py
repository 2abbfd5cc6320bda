"""The table of encoder families agrees with the models that it describes."""

from functools import reduce

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from kd_dist.config.families import ALL_FAMILIES, FAMILIES, unsupported, with_common_names
from kd_dist.models.attention import SUPPORTED_FAMILIES
from tests.models.random_models import random_config, random_inputs


def test_families_are_those_whose_attention_can_be_captured() -> None:
    assert sorted(SUPPORTED_FAMILIES) == sorted(FAMILIES)
    assert set(FAMILIES) == {"albert", "bert", "distilbert", "electra", "ernie", "roberta", "xlm-roberta"}
    others = {"deberta-v2", "modernbert", "nezha", "roformer", "xlnet"}
    assert ALL_FAMILIES.keys() - FAMILIES.keys() == others
    assert all(unsupported({"model_type": family}) for family in others)


def test_settings_of_distilbert_get_their_common_names_and_keep_their_own() -> None:
    config = {"model_type": "distilbert", "n_layers": 6, "n_heads": 12, "dim": 768}
    common = {"num_hidden_layers": 6, "num_attention_heads": 12, "hidden_size": 768}
    assert with_common_names(config) == config | common
    assert with_common_names(config | {"num_hidden_layers": 3})["num_hidden_layers"] == 3  # a common name that is there


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_of_a_known_family_is_not_supported(family: str) -> None:
    assert not unsupported({"model_type": family})
    assert unsupported({"model_type": family, "is_decoder": True})
    assert unsupported({"model_type": f"{family}2"})


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_and_heads_are_where_the_table_says(family: str) -> None:
    facts = FAMILIES[family]
    shape = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2}
    config = AutoConfig.for_model(family, vocab_size=40, intermediate_size=8, hidden_dim=8, embedding_size=8)
    config.update({facts.aliases.get(name, name): value for name, value in shape.items()})
    model = AutoModelForMaskedLM.from_config(config)
    layers = reduce(getattr, facts.layers.split("."), model.base_model)
    assert len(layers) == (1 if family == "albert" else 2)  # which shares one group among its layers


@pytest.mark.parametrize("family", sorted(ALL_FAMILIES.keys() - {"xlnet"}))
def test_words_are_predicted_where_the_table_says(family: str) -> None:
    facts, model = ALL_FAMILIES[family], AutoModelForMaskedLM.from_config(random_config(family))
    assert facts.masked_head is None or hasattr(model, facts.masked_head)
    assert facts.masked_head_weights is not None
    assert any(name.startswith(facts.masked_head_weights) for name in model.state_dict())
    if facts.masked_head is not None:
        inputs = random_inputs([7])
        states_BSD = model.eval().base_model(**inputs).last_hidden_state
        torch.testing.assert_close(getattr(model, facts.masked_head)(states_BSD), model(**inputs).logits)


def test_a_model_that_predicts_the_next_word_predicts_no_masked_one() -> None:
    assert ALL_FAMILIES["xlnet"].masked_head_weights is None
    with pytest.raises(ValueError, match="XLNetConfig"):
        AutoModelForMaskedLM.from_config(random_config("xlnet"))
