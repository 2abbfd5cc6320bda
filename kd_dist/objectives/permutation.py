"""Permutation language modelling (Yang et al. 2019, sections 2.2 to 2.4): predict tokens in a random order.

Each token to predict sees the tokens that are not predicted, and those that come before it in the order. Unlike in
masked language modelling nothing is replaced: XLNet's second stream knows the place of a token and not the token.

Shapes: B batch, S sequence, N predicted tokens of a row at most, P those of the batch, V vocabulary, D width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import PreTrainedModel

from kd_dist.config.families import ALL_FAMILIES
from kd_dist.config.objectives.permutation import PermutationObjective
from kd_dist.config.stages import TrainStage
from kd_dist.models.students import build_language_model
from kd_dist.models.teacher import Batch, Encoded
from kd_dist.objectives.base import Objective, Outcome
from kd_dist.objectives.prediction_losses import masked_language_model_error

CONTEXT = -1  # the place in the order of tokens that are not predicted: before all others


class PermutationLanguageModel(Objective):
    """Prediction of spans of tokens, one token after another in an order that is random for each row."""

    def __init__(self, student: PreTrainedModel, settings: PermutationObjective, tokenizer: Any) -> None:
        super().__init__()
        self.student = student
        self._settings = settings
        self._special_ids = torch.tensor(sorted(tokenizer.all_special_ids))
        head = ALL_FAMILIES[student.config.model_type].permutation_head
        assert head is not None  # checked by PermutationObjective.training_problems
        self._head = head

    def prepare(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Add `order` (B, S): the place of each predicted token in the order of its row, `CONTEXT` elsewhere.

        With it comes what `positions` finds.
        """
        random = torch.Generator().manual_seed(seed)
        text_BS = ~torch.isin(batch["input_ids"], self._special_ids)
        chosen_BS = text_BS & self._spans(batch["input_ids"].shape, random)
        if not chosen_BS.any():  # texts of a few tokens
            chosen_BS = text_BS
        order_BS = torch.rand(text_BS.shape, generator=random).argsort(dim=1)
        order_BS = order_BS.masked_fill(~chosen_BS, CONTEXT)
        return batch | {"order": order_BS} | positions(order_BS)

    def _spans(self, shape: torch.Size, random: torch.Generator) -> Tensor:
        """Return spans (B, S), each at a random place of a stretch that is longer by the share of predicted tokens."""
        chosen_BS = torch.zeros(shape, dtype=torch.bool)
        for row_S in chosen_BS:
            start = 0
            while start < len(row_S):
                length = int(torch.randint(1, self._settings.max_span + 1, (), generator=random))
                stretch = round(length / self._settings.predicted_share)
                first = start + int(torch.randint(stretch - length + 1, (), generator=random))
                row_S[first : first + length] = True
                start += stretch
        return chosen_BS

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"permutation": float(len(batch["predicted"]))}

    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        """Return the cross-entropy summed over the predicted tokens; stream and head run at their places only."""
        order_BS, ids_BS, targets_BN = batch["order"], batch["input_ids"], batch["targets"]
        predicted_BS = order_BS != CONTEXT
        hidden_BSS = (order_BS[:, :, None] <= order_BS[:, None, :]) & predicted_BS[:, None, :]
        dtype = self.student.dtype
        outputs = self.student.base_model(
            **{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch},
            perm_mask=hidden_BSS.to(dtype),
            target_mapping=F.one_hot(targets_BN, ids_BS.shape[1]).to(dtype),
        )
        states_PD = outputs.last_hidden_state.flatten(0, 1)[batch["predicted"]]
        labels_P = ids_BS.gather(1, targets_BN).flatten()[batch["predicted"]]
        logits_PV = getattr(self.student, self._head)(states_PD)
        return Outcome({"permutation": masked_language_model_error(logits_PV, labels_P)})


def positions(order_BS: Tensor) -> dict[str, Tensor]:
    """Return where the predicted tokens are; finding them on a GPU would wait for it.

    Returns:
        `targets` (B, N), the positions of the predicted tokens of each row, filled up with others, and `predicted` (P),
        which of these B x N are predicted.
    """
    predicted_BS = order_BS != CONTEXT
    targets_BN = (~predicted_BS).long().argsort(dim=1, stable=True)[:, : int(predicted_BS.sum(dim=1).max())]
    return {"targets": targets_BN, "predicted": predicted_BS.gather(1, targets_BN).flatten().nonzero()[:, 0]}


def build(stage: TrainStage, tokenizer: Any) -> PermutationLanguageModel:
    """Build the objective with a language model of the student's architecture."""
    assert isinstance(stage.objective, PermutationObjective)
    return PermutationLanguageModel(build_language_model(stage, tokenizer), stage.objective, tokenizer)
