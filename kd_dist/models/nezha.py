"""NEZHA (Wei et al. 2019): BERT with functional relative positions in place of embeddings of absolute ones.

transformers 5 has it no more. Exports carry a copy of this file, with which transformers loads them wherever kd_dist is
not installed, so it imports nothing else of kd_dist. Tensors have the names of transformers 4, so its checkpoints load.

Shapes: B batch, S sequence, D width, H heads, K head size, R distances.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import (
    BertModel,
    BertOnlyMLMHead,
    BertPreTrainedModel,
    BertSelfAttention,
)


class NezhaConfig(BertConfig):
    """The architecture of a NEZHA model.

    Args:
        max_relative_position: tokens that are farther apart count as this far apart.
    """

    model_type = "nezha"
    _auto_class = "AutoConfig"

    vocab_size: int = 21128
    max_relative_position: int = 64
    classifier_dropout: float | int | None = 0.1


def relative_positions(length: int, most: int, size: int, like: Tensor) -> Tensor:
    """Return the vectors (S, S, K) of the distance from each token to each other, clipped to `most` (section 2.3).

    Args:
        length: Tokens of the text, S.
        most: The largest distance, in both directions.
        size: K, an even number.
        like: Says device and type.
    """
    distances_R1 = torch.arange(2 * most + 1, device=like.device, dtype=torch.float32)[:, None]
    frequencies = torch.exp(torch.arange(0, size, 2, device=like.device).float() * (-math.log(10000.0) / size))
    angles = distances_R1 * frequencies
    vectors_RK = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).to(like.dtype)
    places_S = torch.arange(length, device=like.device)
    distance_SS = (places_S[None, :] - places_S[:, None]).clamp(-most, most)
    return vectors_RK[distance_SS + most]


class NezhaEmbeddings(nn.Module):
    """Embeddings of words and segments."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **ignored: Any,
    ) -> Tensor:
        words_BSD = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if token_type_ids is None:
            token_type_ids = torch.zeros(words_BSD.shape[:2], dtype=torch.long, device=words_BSD.device)
        return self.dropout(self.LayerNorm(words_BSD + self.token_type_embeddings(token_type_ids)))


class NezhaSelfAttention(BertSelfAttention):
    """Attention whose keys and values are both shifted by the vector of their distance from the query."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **ignored: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the output (B, S, D) and the probabilities (B, H, S, S).

        Args:
            hidden_states: (B, S, D).
            attention_mask: What is added to the scores, (B, 1, S, S).
        """
        query_BHSK, key_BHSK, value_BHSK = (
            part(hidden_states).unflatten(2, (self.num_attention_heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        length, most = hidden_states.shape[1], self.config.max_relative_position
        vectors_SSK = relative_positions(length, most, self.attention_head_size, query_BHSK)
        scores_BHSS = query_BHSK @ key_BHSK.mT + torch.einsum("bhsk,stk->bhst", query_BHSK, vectors_SSK)
        scores_BHSS = scores_BHSS * self.scaling
        if attention_mask is not None:
            scores_BHSS = scores_BHSS + attention_mask
        shares_BHSS = self.dropout(scores_BHSS.softmax(dim=-1))
        output_BHSK = shares_BHSS @ value_BHSK + torch.einsum("bhst,stk->bhsk", shares_BHSS, vectors_SSK)
        return output_BHSK.transpose(1, 2).flatten(2), shares_BHSS


class NezhaModel(BertModel):
    """The encoder."""

    config_class = NezhaConfig
    base_model_prefix = "nezha"
    _auto_class = "AutoModel"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = False

    def __init__(self, config: NezhaConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config, add_pooling_layer)
        self.embeddings = NezhaEmbeddings(config)
        for layer in self.encoder.layer:
            layer.attention.self = NezhaSelfAttention(config)
        self.post_init()


class _NezhaWithHead(BertPreTrainedModel):
    config_class = NezhaConfig
    base_model_prefix = "nezha"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = False


class NezhaForMaskedLM(_NezhaWithHead):
    """The encoder with a head that predicts masked words."""

    _auto_class = "AutoModelForMaskedLM"
    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "nezha.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config)
        self.nezha = NezhaModel(config, add_pooling_layer=False)
        self.cls = BertOnlyMLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        self.cls.predictions.decoder = new_embeddings
        self.cls.predictions.bias = new_embeddings.bias

    def forward(self, *inputs: Tensor, **others: Any) -> MaskedLMOutput:
        """Return the logits of every token; the arguments are the encoder's."""
        return MaskedLMOutput(logits=self.cls(self.nezha(*inputs, **others).last_hidden_state))


class NezhaForSequenceClassification(_NezhaWithHead):
    """The encoder with a classification head on its first token."""

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.nezha = NezhaModel(config)
        rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(rate)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **others: Any,
    ) -> SequenceClassifierOutput:
        """Return the logits; the arguments are the encoder's."""
        outputs = self.nezha(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, **others)
        logits_BC = self.classifier(self.dropout(outputs.pooler_output))
        return SequenceClassifierOutput(logits=logits_BC, hidden_states=outputs.hidden_states)
