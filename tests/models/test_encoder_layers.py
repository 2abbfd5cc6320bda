"""The parts of a classifier in a row give what the whole gives, in every family."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from kd_dist.config.families import FAMILIES
from kd_dist.models.encoder_layers import EncoderLayers

VARIANTS: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 8},
    "albert in two groups": {"embedding_size": 8, "num_hidden_groups": 2},
    "albert in three groups": {"embedding_size": 8, "num_hidden_groups": 3, "num_hidden_layers": 6},
    "electra": {"embedding_size": 8},
    "electra as wide as its embeddings": {"embedding_size": 16},
    "distilbert": {"hidden_dim": 32},
    "distilbert of sines": {"hidden_dim": 32, "sinusoidal_pos_embds": True},
    "ernie with tasks": {"use_task_id": True},
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
}
KINDS = sorted({*FAMILIES, *VARIANTS})
VOCABULARY = 100


def random_classifier(kind: str = "bert", seed: int = 0, **settings: Any) -> PreTrainedModel:
    """A classifier of 4 layers with weights so wide that every part of it matters, in eval mode."""
    shape = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    shape |= {"vocab_size": VOCABULARY, "max_position_embeddings": 48, "initializer_range": 0.3, "num_labels": 3}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind.split()[0], **{"pad_token_id": 0} | shape | VARIANTS.get(kind, {}) | settings)
    model = AutoModelForSequenceClassification.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zero at first: a bias left out would not be noticed
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def random_inputs(lengths: list[int], padding: int = 0, seed: int = 0, width: int | None = None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask_BS = (torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids_BS = torch.randint(5, VOCABULARY, mask_BS.shape, generator=generator)
    return {"input_ids": ids_BS.where(mask_BS.bool(), torch.tensor(padding)), "attention_mask": mask_BS}


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
def test_without_padding_no_mask_is_needed(kind: str) -> None:
    model, inputs = random_classifier(kind), random_inputs([7, 7])
    parts = EncoderLayers.of(model)
    hidden_BSD = parts.embed(inputs)
    for layer in range(1, len(parts.layers) + 1):
        hidden_BSD = parts.run(layer, hidden_BSD, None)
    torch.testing.assert_close(parts.head(hidden_BSD), model(**inputs).logits)
