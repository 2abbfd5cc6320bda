"""Queries, keys and values of any supported encoder, with fused attention kept on.

The attention losses need the pre-softmax scores QK'. Asking a model for them (`output_attentions`) turns fused
attention off and keeps an S x S matrix per head and layer, so the model hands out the small factors Q and K instead.

Shapes: B batch, S sequence, H heads, K head size.
"""

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from kd_dist.config.families import FAMILIES
from kd_dist.errors import UserError, nearest

SUPPORTED_FAMILIES = frozenset(FAMILIES)

_IMPLEMENTATION = "sdpa_kd_dist"


@dataclass(frozen=True)
class Attention:
    """The factors of one attention layer: its pre-softmax scores are `scaling * query_BHSK @ key_BHSK'`, unmasked.

    Padded positions hold whatever the model computed for them. Values are None where only scores are compared.
    """

    query_BHSK: Tensor
    key_BHSK: Tensor
    scaling: float
    value_BHSK: Tensor | None = None


class _Recorder:
    """Keep some layers of one forward pass.

    Layers are distinguished by counting calls, since ALBERT calls one shared module for all of them. Activation
    checkpointing calls them again in backward; those calls count on beyond the last layer, so none of them is kept.
    """

    def __init__(self, layers: Collection[int]) -> None:
        self.layers = frozenset(layers)
        self.kept: dict[int, Attention] = {}
        self.num_calls = 0
        self.grad_enabled = torch.is_grad_enabled()

    def record(self, attention: Attention) -> None:
        if torch.is_grad_enabled() != self.grad_enabled:
            raise ValueError(
                "The attention layers run without gradients, as under reentrant activation checkpointing: the "
                "attention loss would not train the model. Use use_reentrant=False."
            )
        self.num_calls += 1
        if self.num_calls in self.layers:
            self.kept[self.num_calls] = attention

    def take(self) -> dict[int, Attention]:
        """Return what was kept, and drop it.

        Checkpointed layers hold on to the recorder, and a recorder that held their queries would close a reference
        cycle through the autograd graph, which Python cannot collect.
        """
        kept, self.kept = self.kept, {}
        return kept


def _attend(
    module: nn.Module,
    query_BHSK: Tensor,
    key_BHSK: Tensor,
    value_BHSK: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    attention_recorder: _Recorder | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    if attention_recorder is not None:
        attention_recorder.record(Attention(query_BHSK, key_BHSK, scaling, value_BHSK))
    if not _is_slow(query_BHSK):
        return sdpa_attention_forward(
            module, query_BHSK, key_BHSK, value_BHSK, attention_mask, scaling=scaling, **kwargs
        )
    with torch.autocast("cpu", enabled=False):
        factors = (query_BHSK.float(), key_BHSK.float(), value_BHSK.float())
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.float()
        output_BSHK, _ = sdpa_attention_forward(module, *factors, attention_mask, scaling=scaling, **kwargs)
    return output_BSHK.to(value_BHSK.dtype), None


def _is_slow(query_BHSK: Tensor) -> bool:
    """Return whether gradients are wanted in bf16 on a CPU: fused attention takes several times as long as in fp32."""
    low = query_BHSK.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    return low and query_BHSK.requires_grad and query_BHSK.device.type == "cpu"


def _mask(*, attention_mask: Tensor | None = None, allow_is_bidirectional_skip: bool = False, **arguments: Any) -> Any:
    """Return transformers' mask for `sdpa`; it is left out where there is no padding, which a GPU is not asked for."""
    is_cheap = attention_mask is None or attention_mask.device.type == "cpu"
    skip = allow_is_bidirectional_skip and is_cheap
    return sdpa_mask(attention_mask=attention_mask, allow_is_bidirectional_skip=skip, **arguments)


def capture_attention(model: PreTrainedModel) -> None:
    """Prepare a model for `run_with_attention`; its outputs stay those of transformers' `sdpa` attention.

    The model gets its own copy of its configuration, where transformers stores the attention function: models that were
    built from one configuration object stay independent. A second call changes nothing.

    Fused attention needs an attention dropout of 0 wherever it cannot draw dropout itself (on a CPU): with any other
    value, a model in train mode falls back to PyTorch's S x S path there.

    Raises:
        UserError: the model's family is outside `SUPPORTED_FAMILIES`.
    """
    family = model.config.model_type
    if family not in SUPPORTED_FAMILIES:
        raise UserError(
            f"The attention loss cannot read a model of model_type {family!r}: expected one of "
            f"{', '.join(sorted(SUPPORTED_FAMILIES))}{nearest(family, SUPPORTED_FAMILIES)}"
        )
    AttentionInterface.register(_IMPLEMENTATION, _attend)
    # Without a mask function of the same name transformers passes no mask at all, and padding is silently attended.
    AttentionMaskInterface.register(_IMPLEMENTATION, _mask)
    _give_own_config(model)
    model.set_attn_implementation(_IMPLEMENTATION)


def _give_own_config(model: PreTrainedModel) -> None:
    shared = model.config
    own = copy.deepcopy(shared)
    for module in model.modules():
        if getattr(module, "config", None) is shared:
            module.config = own


def run_with_attention(model: nn.Module, layers: Collection[int], **inputs: Any) -> tuple[Any, dict[int, Attention]]:
    """Run a model and return its outputs together with the queries and keys of some layers.

    Args:
        model: prepared by `capture_attention`, or passing unknown keywords on to a model that was.
        layers: numbers of attention layers, counted from 1 in the order of their calls; nothing of others is kept.
        inputs: those of the model.

    Returns:
        The model's outputs, and for each layer its tensors with their autograd history; under `torch.no_grad()` they
        have none.

    Raises:
        ValueError: the model has no such layer, was not prepared, or runs under reentrant activation checkpointing,
            which would lose the gradients of Q and K.
    """
    recorder = _Recorder(layers)
    outputs = model(**inputs, attention_recorder=recorder)
    kept = recorder.take()
    missing = sorted(recorder.layers - kept.keys())
    if missing and recorder.num_calls == 0:
        raise ValueError("The model handed out no attention: call capture_attention(model) first.")
    if missing:
        raise ValueError(f"No attention layers {missing}: the model has the layers 1 to {recorder.num_calls}.")
    return outputs, kept
