"""A branch is the published one, whatever it leaves uncomputed."""

import math

import pytest
import torch
from torch import Tensor, nn

from kd_dist.models.branches import Branch
from kd_dist.models.early_exit_config import FastBertConfig
from tests.models.random_models import random_inputs


def naive_branch(branch: Branch, hidden_BSD: Tensor, mask_BS: Tensor | None) -> Tensor:
    """As published: attention of all tokens to all tokens, by torch's own module, of which the first is taken."""
    width = branch.dense.in_features
    attention = nn.MultiheadAttention(width, branch.num_heads, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([branch.query.weight, branch.key.weight, branch.value.weight]))
        attention.in_proj_bias.copy_(torch.cat([branch.query.bias, torch.zeros(width), branch.value.bias]))
        attention.out_proj.load_state_dict(branch.output.state_dict())
    narrow_BSW = branch.activation(branch.projection(hidden_BSD))
    padding_BS = None if mask_BS is None or not branch.mask else mask_BS == 0
    attended_BSW, _ = attention(narrow_BSW, narrow_BSW, narrow_BSW, key_padding_mask=padding_BS)
    return branch.classifier(branch.activation(branch.dense(attended_BSW[:, 0])))


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "none"])
@pytest.mark.parametrize("heads", [1, 2])
def test_a_branch_is_the_published_one(heads: int, activation: str, mask: bool) -> None:
    torch.manual_seed(0)
    config = FastBertConfig(branch_width=8, branch_heads=heads, branch_activation=activation, branch_mask=mask)
    branch, hidden_BSD = Branch(16, 5, config), torch.randn(3, 7, 16)
    assert isinstance(branch.activation, nn.Tanh if activation == "tanh" else nn.Identity)
    mask_BS = random_inputs([7, 4, 1])["attention_mask"]
    torch.testing.assert_close(branch(hidden_BSD, mask_BS), naive_branch(branch, hidden_BSD, mask_BS))
    torch.testing.assert_close(branch(hidden_BSD, None), naive_branch(branch, hidden_BSD, None))


@pytest.mark.parametrize("mask", [True, False])
def test_padding_is_seen_by_a_branch_without_a_mask_alone(mask: bool) -> None:
    torch.manual_seed(0)
    branch, hidden_BSD = Branch(16, 5, FastBertConfig(branch_width=8, branch_mask=mask)), torch.randn(2, 7, 16)
    mask_BS = random_inputs([7, 4])["attention_mask"]
    other_BSD = hidden_BSD.where(mask_BS[..., None].bool(), torch.randn(2, 7, 16))
    before, after = branch(hidden_BSD, mask_BS), branch(other_BSD, mask_BS)
    assert torch.equal(before[0], after[0])
    assert torch.allclose(before[1], after[1], atol=1e-6) == mask


def test_a_bias_of_the_keys_would_change_nothing() -> None:
    torch.manual_seed(0)
    branch, hidden_BSD = Branch(16, 5, FastBertConfig(branch_width=8)), torch.randn(2, 7, 16)
    narrow_BSW = branch.activation(branch.projection(hidden_BSD))
    query, keys, bias = branch.query(narrow_BSW[:, :1]), branch.key(narrow_BSW), torch.randn(8)
    for head in (slice(0, 4), slice(4, 8)):
        plain, shifted = (query[..., head] @ k[..., head].mT for k in (keys, keys + bias))
        torch.testing.assert_close((plain / math.sqrt(4)).softmax(-1), (shifted / math.sqrt(4)).softmax(-1))
