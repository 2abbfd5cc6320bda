"""Masked language modelling (Devlin et al. 2019), optionally of whole words (Cui et al. 2019).

Shapes: B batch, S sequence, D width, N predicted positions.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from kd_dist.config.families import ALL_FAMILIES
from kd_dist.config.objectives.mlm import MlmObjective
from kd_dist.config.stages import TrainStage
from kd_dist.models.students import build_masked_language_model
from kd_dist.models.teacher import Batch, Encoded
from kd_dist.objectives.base import Objective, Outcome
from kd_dist.objectives.prediction_losses import masked_language_model_error

KEPT = -100


class MaskedLanguageModel(Objective):
    """Prediction of chosen tokens: 80 % of them are masked, 10 % replaced by a random token, and 10 % unchanged."""

    def __init__(self, student: PreTrainedModel, settings: MlmObjective, tokenizer: Any) -> None:
        super().__init__()
        self.student = student
        self._settings = settings
        self._mask_id, self._vocabulary_size = tokenizer.mask_token_id, len(tokenizer)
        self._special_ids = torch.tensor(sorted(tokenizer.all_special_ids))
        head = ALL_FAMILIES[student.config.model_type].masked_head
        assert head is not None  # checked by MlmObjective.training_problems
        self._head = head

    def prepare(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Mask the batch and add `labels` (B, S): the true token where one is predicted, -100 elsewhere.

        The places of the predicted tokens among all B x S are `predicted` (N): finding them on a GPU would wait for it.
        """
        random = torch.Generator().manual_seed(seed)
        original = batch["input_ids"]
        chosen = self._chosen(batch, random)
        draw = torch.rand(original.shape, generator=random)
        anything = torch.randint(self._vocabulary_size, original.shape, generator=random)
        replaced = torch.where(draw < 0.8, self._mask_id, torch.where(draw < 0.9, anything, original))
        return batch | {
            "input_ids": torch.where(chosen, replaced, original),
            "labels": original.masked_fill(~chosen, KEPT),
            "predicted": chosen.flatten().nonzero()[:, 0],
        }

    def _chosen(self, batch: dict[str, Tensor], random: torch.Generator) -> Tensor:
        """Return the positions to predict, (B, S): tokens or words with equal probability, at least one per batch."""
        ids, allowed = batch["input_ids"], ~torch.isin(batch["input_ids"], self._special_ids)
        score = torch.rand(ids.shape, generator=random)
        if self._settings.whole_word_masking:
            word = batch["word_starts"].long().cumsum(1) - 1  # a word shares the draw of its first token
            score = score.gather(1, word.clamp(min=0))
        threshold = score[allowed].min() if allowed.any() else 0.0
        return allowed & (score <= torch.clamp(torch.as_tensor(threshold), min=self._settings.masking_probability))

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"mlm": float(len(batch["predicted"]))}

    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        """Return the cross-entropy summed over the predicted positions; the head runs on those positions only."""
        outputs = self.student.base_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        states_ND = outputs.last_hidden_state.flatten(0, 1)[batch["predicted"]]
        labels_N = batch["labels"].flatten()[batch["predicted"]]
        return Outcome({"mlm": masked_language_model_error(getattr(self.student, self._head)(states_ND), labels_N)})


def build(stage: TrainStage, tokenizer: Any) -> MaskedLanguageModel:
    """Build the objective with a masked language model of the student's architecture."""
    assert isinstance(stage.objective, MlmObjective)
    return MaskedLanguageModel(build_masked_language_model(stage, tokenizer), stage.objective, tokenizer)
