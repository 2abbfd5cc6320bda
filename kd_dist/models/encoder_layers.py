"""Run a classifier one part at a time: embeddings, each layer of the encoder, and the head.

transformers runs all layers in one call, and each family names its parts differently; early exit has to stop between
two layers. The parts one after the other give what the whole model gives; in train mode they have dropout in the same
places.

Shapes: B batch, S sequence, D width, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class EncoderLayers:
    """The parts of a sequence classifier of one of the supported families.

    Args:
        classifier: the whole model.
        layers: one for each layer; ALBERT's are one module, many times.
    """

    classifier: PreTrainedModel
    layers: list[nn.Module]

    @classmethod
    def of(cls, classifier: PreTrainedModel) -> "EncoderLayers":
        """Find the layers of a classifier."""
        encoder, family = classifier.base_model, classifier.config.model_type
        if family == "distilbert":
            return cls(classifier, list(encoder.transformer.layer))
        if family == "albert":
            groups, num_layers = encoder.encoder.albert_layer_groups, classifier.config.num_hidden_layers
            return cls(classifier, [groups[layer * len(groups) // num_layers] for layer in range(num_layers)])
        return cls(classifier, list(encoder.encoder.layer))

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the (B, S, D) input of the first layer.

        Args:
            inputs: `input_ids` and perhaps `token_type_ids`, each (B, S); anything else is ignored.
        """
        encoder = self.classifier.base_model
        given = {name: inputs[name] for name in ("input_ids", "token_type_ids") if name in inputs}
        hidden_BSD = encoder.embeddings(**given)
        if hasattr(encoder, "embeddings_project"):  # ELECTRA's narrow embeddings
            return encoder.embeddings_project(hidden_BSD)
        if self.classifier.config.model_type == "albert":
            return encoder.encoder.embedding_hidden_mapping_in(hidden_BSD)
        return hidden_BSD

    def run(self, layer: int, hidden_BSD: Tensor, mask_BS: Tensor | None) -> Tensor:
        """Return the (B, S, D) states after a layer.

        Args:
            layer: from 1.
            hidden_BSD: the states before it.
            mask_BS: 0 at padding; None: there is no padding.
        """
        return self.layers[layer - 1](hidden_BSD, None if mask_BS is None else self._mask(mask_BS, hidden_BSD.dtype))

    def _mask(self, mask_BS: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the (B, 1, 1, S) mask: booleans for fused attention, or what the plain one adds to its scores."""
        mask_B11S = mask_BS.bool()[:, None, None, :]
        if self.classifier.config._attn_implementation != "eager":
            return mask_B11S
        return torch.zeros_like(mask_B11S, dtype=dtype).masked_fill(~mask_B11S, torch.finfo(dtype).min)

    def head(self, hidden_BSD: Tensor) -> Tensor:
        """Return the (B, C) logits of the classifier's own head, from the states after the last layer."""
        classifier: Any = self.classifier
        encoder, family = classifier.base_model, classifier.config.model_type
        if family in ("roberta", "xlm-roberta", "electra"):
            return classifier.classifier(hidden_BSD)
        if family == "distilbert":
            first_BD = torch.relu(classifier.pre_classifier(hidden_BSD[:, 0]))
        elif family == "albert":
            first_BD = encoder.pooler_activation(encoder.pooler(hidden_BSD[:, 0]))
        else:
            first_BD = encoder.pooler(hidden_BSD)
        return classifier.classifier(classifier.dropout(first_BD))
