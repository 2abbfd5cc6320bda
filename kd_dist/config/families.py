"""The one table of facts about encoder families, by transformers' `model_type`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """The facts in which an encoder family may differ from BERT, whose values are the defaults.

    Every family in the table calls transformers' AttentionInterface in its layers, and its attention scores are plain
    QK', so it can be trained and its layers can be distilled.
    """

    layers: str = "encoder.layer"
    """Attribute path of the layers within the base model."""
    classifier_head: str = "pooled"
    """Input of the classification head: `pooled` (the pooler's output), `sequence` (all hidden states), or the name of
    a family whose head has a form of its own."""
    masked_head: str | None = "cls"
    """The module of a masked language model that predicts tokens from hidden states; None where there are several."""
    masked_head_weights: str = "cls.predictions."
    """Prefix of that head's weights in a checkpoint."""
    offset_positions: bool = False
    """Whether positions are numbered from `pad_token_id + 1`, so that the first position embeddings are never used."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The family's names for BERT's settings, where they differ: BERT's name -> the family's name."""


FAMILIES: dict[str, Family] = {
    "albert": Family(
        layers="encoder.albert_layer_groups",
        classifier_head="albert",
        masked_head="predictions",
        masked_head_weights="predictions.",
    ),
    "bert": Family(),
    "distilbert": Family(
        layers="transformer.layer",
        classifier_head="distilbert",
        masked_head=None,
        masked_head_weights="vocab_",
        aliases={"num_hidden_layers": "n_layers", "num_attention_heads": "n_heads", "hidden_size": "dim"},
    ),
    "electra": Family(classifier_head="sequence", masked_head=None, masked_head_weights="generator_lm_head."),
    "ernie": Family(),
    "roberta": Family(
        classifier_head="sequence", masked_head="lm_head", masked_head_weights="lm_head.", offset_positions=True
    ),
    "xlm-roberta": Family(
        classifier_head="sequence", masked_head="lm_head", masked_head_weights="lm_head.", offset_positions=True
    ),
}


def unsupported(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json describes something other than an encoder of a family in the table."""
    is_known = config.get("model_type") in FAMILIES
    return not is_known or bool(config.get("is_decoder") or config.get("is_encoder_decoder"))


def with_common_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json with BERT's names added for the settings that its family names differently."""
    aliases = {name: own for family in FAMILIES.values() for name, own in family.aliases.items()}
    return {name: config[own] for name, own in aliases.items() if own in config} | dict(config)
