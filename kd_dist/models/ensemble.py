"""Several classifiers as one, which gives their mean prediction.

Exports carry a copy of this file, with which transformers loads them wherever kd_dist is not installed, so it imports
nothing else of kd_dist.

Shapes: B batch, S sequence, C classes, M members.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

REGRESSION, MULTI_LABEL = "regression", "multi_label_classification"


class EnsembleConfig(PreTrainedConfig):
    """The members of an ensemble, and how their predictions are combined.

    Args:
        members: the config.json of each member.
        columns: for each member, the column of its logits that each label of the ensemble has.
        weights: of the members in the mean; they sum to 1.
        temperatures: what the logits of each member are divided by.
    """

    model_type = "ensemble"
    _auto_class = "AutoConfig"

    members: list[dict[str, Any]] | None = None
    columns: list[list[int]] | None = None
    weights: list[float] | None = None
    temperatures: list[float] | None = None
    vocab_size: int = 0
    pad_token_id: int | None = 0
    type_vocab_size: int = 1
    max_position_embeddings: int = 0
    num_hidden_layers: int = 0


class EnsembleForSequenceClassification(PreTrainedModel):
    """A classifier whose prediction is the weighted mean of its members' probabilities, or of their numbers.

    Its logits are those whose softmax, or for several labels whose sigmoid, is that mean.
    """

    config_class = EnsembleConfig
    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__(config)
        configs = [AutoConfig.for_model(**member) for member in config.members or []]
        self.members = nn.ModuleList(AutoModelForSequenceClassification.from_config(member) for member in configs)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave members as they are: each has initialized itself."""

    def get_input_embeddings(self) -> nn.Module:
        first: Any = self.members[0]
        return first.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **ignored: Any,
    ) -> SequenceClassifierOutput:
        """Return the logits of the mean prediction.

        Args:
            input_ids: (B, S).
            attention_mask: (B, S), 0 at padding; none: there is no padding.
            token_type_ids: (B, S), for the members that have types.
            ignored: what transformers passes on.
        """
        logits = []
        for member, columns, temperature in zip(
            self.members, self.config.columns, self.config.temperatures, strict=True
        ):
            has_types = token_type_ids is not None and getattr(member.config, "type_vocab_size", 0) > 1
            types = {"token_type_ids": token_type_ids} if has_types else {}
            found_BC = member(input_ids=input_ids, attention_mask=attention_mask, **types).logits.float()
            logits.append(found_BC[:, columns] / temperature)
        return SequenceClassifierOutput(logits=self._mean(torch.stack(logits)))

    def _mean(self, logits_MBC: Tensor) -> Tensor:
        """Return the logits (B, C) of the weighted mean of predictions, computed from their logarithms."""
        weights_M11 = logits_MBC.new_tensor(self.config.weights)[:, None, None]
        if self.config.problem_type == REGRESSION:
            return (weights_M11 * logits_MBC).sum(dim=0)
        if self.config.problem_type == MULTI_LABEL:
            yes, no = (nn.functional.logsigmoid(logits) for logits in (logits_MBC, -logits_MBC))
            return _log_mean(yes, weights_M11) - _log_mean(no, weights_M11)
        return _log_mean(logits_MBC.log_softmax(dim=-1), weights_M11)


def _log_mean(logarithms_MBC: Tensor, weights_M11: Tensor) -> Tensor:
    return (logarithms_MBC + weights_M11.log()).logsumexp(dim=0)
