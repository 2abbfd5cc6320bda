"""What of a batch a model is fed, and on which side it is padded.

Batches are padded on the right, where students and most teachers expect it. Some families expect padding on the left,
so that the last token of a row, which stands for the whole, is at the same place in all rows.

Shapes: B batch, S sequence.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kd_dist.config.families import padding_side, takes_token_types

Batch = Mapping[str, Tensor]


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Keep the inputs of a batch that a model accepts, padded on the side on which it expects padding.

    Args:
        model: Of transformers; it gets token types only if it tells segments apart.
        batch: Tensors (B, S), padded on the right, of which `attention_mask` (0 at padding) must be one.
    """
    config: Any = model.config
    has_types = takes_token_types(config.model_type, getattr(config, "type_vocab_size", 0))
    names = ("input_ids", "attention_mask", *(["token_type_ids"] if has_types else []))
    inputs = {name: batch[name] for name in names if name in batch}
    return inputs if padding_side(config.model_type) == "right" else _padded_left(inputs)


def states_as_in_batch(model: nn.Module, batch: Batch, states_BSD: Tensor) -> Tensor:
    """Return the states that a model gave for `model_inputs` of a batch, in the order of the tokens of the batch."""
    config: Any = model.config
    if padding_side(config.model_type) == "right":
        return states_BSD
    return states_BSD.take_along_dim(_turned(batch["attention_mask"], -1)[..., None], dim=1)


def _padded_left(inputs: Batch) -> dict[str, Tensor]:
    """Move the padding of rows from their end to their beginning."""
    source_BS = _turned(inputs["attention_mask"], 1)
    return {name: tensor.gather(1, source_BS) for name, tensor in inputs.items()}


def _turned(mask_BS: Tensor, direction: int) -> Tensor:
    """Return where each place of a row comes from when its padding goes to the beginning (1), or back (-1)."""
    size = mask_BS.shape[1]
    shift_B1 = size - mask_BS.sum(dim=1, keepdim=True)
    return (torch.arange(size, device=mask_BS.device) - direction * shift_B1).remainder(size)
