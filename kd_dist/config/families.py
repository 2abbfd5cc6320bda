"""The one table of facts about encoder families, by transformers' `model_type`.

Every classifier that transformers can load has predictions, which can be distilled (docs/distillation.md). Outside the
table that is so if padding does not change them, which is tried when a model is loaded. The hidden states of all
families in the table can be distilled, and the attention of those whose scores are plain QK', where transformers hands
out queries and keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PaddingSide = Literal["right", "left"]


@dataclass(frozen=True)
class Family:
    """The facts in which an encoder family may differ from BERT, whose values are the defaults."""

    title: str
    """Its name, for people."""
    no_attention: str | None = None
    """Why its attention cannot be distilled, as a clause; None where it can, and where layers can get exits."""
    padding_side: PaddingSide = "right"
    """The side of a row on which the family expects padding, where that is not all the same to it."""
    takes_token_types: bool = False
    """Whether it tells segments apart without embeddings for them (BERT's are counted by `type_vocab_size`)."""
    layers: str = "encoder.layer"
    """Attribute path of the layers within the base model."""
    classifier_head: str = "pooled"
    """Input of the classification head: `pooled` (the pooler's output), `sequence` (all hidden states), or the name of
    a family whose head has a form of its own."""
    masked_head: str | None = "cls"
    """The module of a masked language model that predicts tokens from hidden states; None where there are several."""
    masked_head_weights: str | None = "cls.predictions."
    """Prefix of that head's weights in a checkpoint; None: there is no masked language model."""
    permutation_head: str | None = None
    """The module of a permutation language model that predicts tokens; None: the family has no such model."""
    offset_positions: bool = False
    """Whether positions are numbered from `pad_token_id + 1`, so that the first position embeddings are never used."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The family's names for BERT's settings, where they differ: BERT's name -> the family's name."""


ALL_FAMILIES: dict[str, Family] = {
    "albert": Family(
        "ALBERT",
        layers="encoder.albert_layer_groups",
        classifier_head="albert",
        masked_head="predictions",
        masked_head_weights="predictions.",
    ),
    "bert": Family("BERT, RoBERTa-wwm, MacBERT, WoBERT"),
    "deberta-v2": Family(
        "DeBERTa-v2 and -v3",
        no_attention="its scores are the sum of three products, of contents and of relative positions",
    ),
    "distilbert": Family(
        "DistilBERT",
        layers="transformer.layer",
        classifier_head="distilbert",
        masked_head=None,
        masked_head_weights="vocab_",
        aliases={"num_hidden_layers": "n_layers", "num_attention_heads": "n_heads", "hidden_size": "dim"},
    ),
    "electra": Family(
        "ELECTRA", classifier_head="sequence", masked_head=None, masked_head_weights="generator_lm_head."
    ),
    "ernie": Family("ERNIE"),
    "modernbert": Family(
        "ModernBERT",
        no_attention="most of its layers see a window around each token only, a student's see the whole text",
        layers="layers",
        masked_head=None,
        masked_head_weights="decoder.",
    ),
    "nezha": Family(
        "NEZHA, WoNEZHA",
        no_attention="its scores are the sum of two products, of contents and of relative positions",
    ),
    "roberta": Family(
        "RoBERTa",
        classifier_head="sequence",
        masked_head="lm_head",
        masked_head_weights="lm_head.",
        offset_positions=True,
    ),
    "roformer": Family(
        "RoFormer", no_attention="transformers does not hand out the queries and keys that it has rotated"
    ),
    "xlm-roberta": Family(
        "XLM-R",
        classifier_head="sequence",
        masked_head="lm_head",
        masked_head_weights="lm_head.",
        offset_positions=True,
    ),
    "xlnet": Family(
        "XLNet",
        no_attention="its scores are the sum of three products, of contents, of relative positions and of segments",
        padding_side="left",
        layers="layer",
        takes_token_types=True,
        masked_head=None,
        masked_head_weights=None,
        permutation_head="lm_loss",
        aliases={"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "hidden_size": "d_model"},
    ),
}

FAMILIES = {name: facts for name, facts in ALL_FAMILIES.items() if facts.no_attention is None}
"""The families whose attention can be distilled, and whose layers can get exits."""


def unsupported(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json describes something other than an encoder whose parts are known here."""
    is_known = config.get("model_type") in FAMILIES
    return not is_known or bool(config.get("is_decoder") or config.get("is_encoder_decoder"))


def with_common_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json with BERT's names added for the settings that its family names differently."""
    aliases = [pair for family in ALL_FAMILIES.values() for pair in family.aliases.items()]
    return {name: config[own] for name, own in aliases if own in config} | dict(config)


def takes_token_types(model_type: str, type_vocab_size: int) -> bool:
    """Return whether a model tells segments apart; `type_vocab_size` is 0 where its configuration has none."""
    return type_vocab_size > 1 or (model_type in ALL_FAMILIES and ALL_FAMILIES[model_type].takes_token_types)


def padding_side(model_type: str) -> PaddingSide:
    """Return the side of rows on which a model expects padding; that of unknown families is the right one."""
    return ALL_FAMILIES[model_type].padding_side if model_type in ALL_FAMILIES else "right"
