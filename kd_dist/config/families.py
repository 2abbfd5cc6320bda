"""The one table of facts about encoder families, by transformers' `model_type`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """What sets an encoder family apart from BERT, whose facts are the defaults.

    Every family here calls transformers' AttentionInterface in its layers, and its attention scores are plain QK', so
    that it can be trained and its layers distilled.
    """

    layers: str = "encoder.layer"
    """Where the layers are, from the base model on."""
    classifier_head: str = "pooled"
    """What the classification head takes: `pooled` the pooler's output, `sequence` all hidden states, or a form of the
    family's own."""
    masked_head: str | None = "cls"
    """The one module of a masked language model that predicts words from states; None where there are several."""
    masked_head_weights: str = "cls.predictions."
    """How the names of that head's weights begin in a file of weights."""
    offset_positions: bool = False
    """Whether positions are numbered from the padding token's id on, so that the first ones are never used."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The family's own names of BERT's settings, where they differ."""


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
    """Say whether a config.json describes anything but an encoder of a family in the table."""
    is_known = config.get("model_type") in FAMILIES
    return not is_known or bool(config.get("is_decoder") or config.get("is_encoder_decoder"))


def with_common_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json with BERT's names of the settings that its family calls otherwise."""
    aliases = {name: own for family in FAMILIES.values() for name, own in family.aliases.items()}
    return {name: config[own] for name, own in aliases.items() if own in config} | dict(config)
