"""The classifier after a layer."""

import math

import torch
from torch import Tensor, nn

from kd_dist.models.early_exit_config import FastBertConfig


class Branch(nn.Module):
    """A small classifier: narrow projection, self-attention, the first token, two linear maps (Liu et al. 2020, section
    3.2, in the form of the authors' code, but without dropout).

    Only the output of the first token is used, so only its query is computed. Its score of a token x is
    (Wq x0)' (Wk x) = (Wk' Wq x0)' x and its output Wv (sum of a x), so keys and values of the tokens are never computed
    either: the projection is the only map of every token. A bias of the keys would shift all scores by the same number,
    so there is none.

    Args:
        hidden_size: width of the encoder.
        num_labels: columns of the logits.
        config: width, heads and activation of the branch, and whether padding is masked (`branch_mask`).
    """

    def __init__(self, hidden_size: int, num_labels: int, config: FastBertConfig) -> None:
        super().__init__()
        width = config.branch_width
        self.num_heads, self.mask = config.branch_heads, config.branch_mask
        self.activation = nn.Tanh() if config.branch_activation == "tanh" else nn.Identity()
        self.projection = nn.Linear(hidden_size, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.dense = nn.Linear(width, width)
        self.classifier = nn.Linear(width, num_labels)

    def forward(self, hidden_BSD: Tensor, mask_BS: Tensor | None) -> Tensor:
        """Return the (B, C) logits from the states after a layer.

        Args:
            hidden_BSD: the states.
            mask_BS: 0 at padding; None: there is no padding.
        """
        narrow_BSW = self.activation(self.projection(hidden_BSD))
        attended_BW = self.output(self._attention(narrow_BSW, mask_BS if self.mask else None))
        return self.classifier(self.activation(self.dense(attended_BW)))

    def _attention(self, narrow_BSW: Tensor, mask_BS: Tensor | None) -> Tensor:
        """Return the (B, W) attention output of the first token, before the output map."""
        batch, _, width = narrow_BSW.shape
        query_HBK = self.query(narrow_BSW[:, 0]).view(batch, self.num_heads, -1).transpose(0, 1)
        key_HKW = self.key.weight.view(self.num_heads, -1, width)
        value_HKW = self.value.weight.view(self.num_heads, -1, width)
        looked_for_BHW = torch.matmul(query_HBK, key_HKW).transpose(0, 1)
        scores_BHS = torch.matmul(looked_for_BHW, narrow_BSW.mT) / math.sqrt(key_HKW.shape[1])
        if mask_BS is not None:
            scores_BHS = scores_BHS.masked_fill(~mask_BS.bool()[:, None, :], float("-inf"))
        gathered_BHW = torch.matmul(scores_BHS.softmax(dim=-1), narrow_BSW)
        value_HBK = torch.matmul(gathered_BHW.transpose(0, 1), value_HKW.mT)
        return value_HBK.transpose(0, 1).flatten(1) + self.value.bias
