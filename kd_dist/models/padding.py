"""Try whether padding changes what a classifier predicts, for families that the table of families does not know.

Some families attend to padding, mix it into their tokens (FNet, ConvBERT), or read the last position of a row. A batch
would then silently give other predictions than its rows alone.

Shapes: B batch, S sequence, C classes.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from kd_dist.config.families import ALL_FAMILIES
from kd_dist.errors import UserError, first_line
from kd_dist.model_files.model_folders import encoder_config
from kd_dist.models.inputs import model_inputs

LENGTHS = (12, 3)


def refuse_dependence_on_padding(model: PreTrainedModel, origin: str) -> None:
    """Compare what a classifier of an unknown family predicts for a short row alone and beside a longer one.

    Args:
        model: The classifier; its mode is left as it is.
        origin: Where it comes from, for messages.

    Raises:
        UserError: It predicts something else, or cannot predict a batch.
    """
    family = encoder_config(model.config.to_dict()).get("model_type")
    if family in ALL_FAMILIES:
        return
    was_training = model.training
    model.eval()
    try:
        difference, size = _difference(model, _rows(model.config))
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        raise UserError(
            f"{origin} is a `{family}` model, which cannot classify a batch of token ids with a mask: "
            f"{first_line(error)}"
        ) from error
    finally:
        model.train(was_training)
    if difference > size * torch.finfo(model.dtype).eps ** 0.5:
        raise UserError(
            f"{origin} is a `{family}` model, whose predictions change with the padding of a batch (by "
            f"{difference:.1e} for a short row beside a longer one): what it predicts would depend on chance"
        )


def _rows(config: Any) -> dict[str, Tensor]:
    """Return two rows of random tokens, none of them special; an encoder and decoder gets the end that it looks for."""
    special = [number for key, number in config.to_dict().items() if key.endswith("_token_id")]
    usable = torch.tensor([number for number in range(config.vocab_size) if number not in special])
    generator = torch.Generator().manual_seed(0)
    mask_BS = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    ids_BS = usable[torch.randint(len(usable), mask_BS.shape, generator=generator)]
    if config.is_encoder_decoder:
        ids_BS[range(len(LENGTHS)), [length - 1 for length in LENGTHS]] = config.eos_token_id
    return {"input_ids": torch.where(mask_BS.bool(), ids_BS, config.pad_token_id or 0), "attention_mask": mask_BS}


@torch.no_grad()
def _difference(model: PreTrainedModel, rows: dict[str, Tensor]) -> tuple[float, float]:
    """Return by how much the logits of the short row differ, and how large they are."""
    short = {name: tensor[1:, : LENGTHS[1]] for name, tensor in rows.items()}
    alone_C = model(**model_inputs(model, short)).logits[0].float()
    beside_C = model(**model_inputs(model, rows)).logits[1].float()
    return float((alone_C - beside_C).abs().max()), float(alone_C.abs().max())
