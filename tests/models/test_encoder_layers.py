"""The parts of a classifier in a row give what the whole gives, in every family."""

import pytest
import torch
from torch import nn

from kd_dist.models.encoder_layers import EncoderLayers
from tests.models.random_models import KINDS, random_classifier, random_inputs


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_parts_in_a_row_are_the_whole(kind: str, attention: str) -> None:
    model = random_classifier(kind)
    model.set_attn_implementation(attention)
    inputs = random_inputs([9, 5, 1], padding=model.config.pad_token_id)
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = (torch.arange(9) > 3).long().expand(3, -1).contiguous()
    parts = EncoderLayers.of(model)
    assert len(parts.layers) == model.config.num_hidden_layers
    hidden_BSD = parts.embed(inputs)
    states = model(**inputs, output_hidden_states=True).hidden_states
    for layer in range(1, len(parts.layers) + 1):
        hidden_BSD = parts.run(layer, hidden_BSD, inputs["attention_mask"])
        valid_BS = inputs["attention_mask"].bool()
        torch.testing.assert_close(hidden_BSD[valid_BS], states[layer][valid_BS])
    torch.testing.assert_close(parts.head(hidden_BSD), model(**inputs).logits)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_dropout_is_where_the_whole_has_it(kind: str) -> None:
    model, inputs = random_classifier(kind), random_inputs([7, 5])
    set_dropout(model, 0.5)
    parts, mask_BS = EncoderLayers.of(model.train()), inputs["attention_mask"]
    torch.manual_seed(0)
    hidden_BSD = parts.embed(inputs)
    for layer in range(1, len(parts.layers) + 1):
        hidden_BSD = parts.run(layer, hidden_BSD, mask_BS)
    found = parts.head(hidden_BSD)
    torch.manual_seed(0)
    torch.testing.assert_close(found, model(**inputs).logits)


def set_dropout(model: nn.Module, share: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_without_padding_no_mask_is_needed(kind: str) -> None:
    model, inputs = random_classifier(kind), random_inputs([7, 7])
    parts = EncoderLayers.of(model)
    hidden_BSD = parts.embed(inputs)
    for layer in range(1, len(parts.layers) + 1):
        hidden_BSD = parts.run(layer, hidden_BSD, None)
    torch.testing.assert_close(parts.head(hidden_BSD), model(**inputs).logits)
