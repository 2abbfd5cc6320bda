"""TextGCN (Yao et al. 2019) for new texts: two layers of graph convolution around one document and its words.

Exports carry a copy of this file, with which transformers loads them wherever kd_dist is not installed, so it imports
nothing else of kd_dist.

A new text d is a node that was not in the graph. With the edges a_dw = tf(w) idf(w) / sqrt(D_d D_w) to its words, where
D_d = 1 + sum of tf(w) idf(w) and D_w is the degree of the word in the graph, and a_dd = 1 / D_d to itself:

    first   h_d = relu(sum of a_dw W0[w])
    second  z_d = a_dd h_d W1 + sum of a_dw h_w W1

The words' own states h_w do not change, as they would a little if the text became a part of the graph, and the text has
no row of W0 of its own, which the documents of the graph have.

Shapes: B batch, S sequence, V vocabulary, H hidden, C classes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class TextGcnConfig(PreTrainedConfig):
    """The sizes of a TextGCN.

    Args:
        vocab_size: tokens, of which those that are no words have an `idf` of 0.
        hidden_size: width of the first layer.
    """

    model_type = "textgcn"
    _auto_class = "AutoConfig"

    vocab_size: int = 0
    pad_token_id: int | None = 0
    hidden_size: int = 200
    num_hidden_layers: int = 2


class TextGcnForSequenceClassification(PreTrainedModel):
    """A classifier of new texts by the words of a graph, whose order does not count."""

    config_class = TextGcnConfig
    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: TextGcnConfig) -> None:
        super().__init__(config)
        self.idf = nn.Parameter(torch.zeros(config.vocab_size), requires_grad=False)
        self.degrees = nn.Parameter(torch.ones(config.vocab_size), requires_grad=False)
        # W0 of the words, and what they pass on to the second layer: h_w W1.
        self.first = nn.Embedding(config.vocab_size, config.hidden_size)
        self.second = nn.Embedding(config.vocab_size, config.num_labels)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            module.reset_parameters()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **ignored: Any
    ) -> SequenceClassifierOutput:
        """Return the logits.

        Args:
            input_ids: (B, S) tokens.
            attention_mask: (B, S), 0 at padding; none: there is no padding.
            ignored: what a tokenizer returns besides, such as `token_type_ids`.
        """
        mask_BS = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weights_BS = self.idf[input_ids] * mask_BS  # a word that is there twice counts twice: tf idf
        degree_B1 = 1 + weights_BS.sum(dim=1, keepdim=True)
        edges_B1S = (weights_BS / (degree_B1 * self.degrees[input_ids]).sqrt()).unsqueeze(1)
        first_BH = (edges_B1S @ self.first(input_ids)).squeeze(1).relu()
        second_BC = (edges_B1S @ self.second(input_ids)).squeeze(1)
        return SequenceClassifierOutput(logits=self.classifier(first_BH) / degree_B1 + second_BC)
