"""MiniLMv2's distillation of self-attention relations (Wang et al. 2021, equations 5 to 8).

The student's last layer imitates one layer of the teacher: how its queries, its keys and its values relate to each
other. Neither heads, nor widths, nor layers need be equal, and nothing is projected.

Shapes: B batch, S sequence, H heads, K head size, D width.
"""

from typing import Any

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from kd_dist.config.objectives.relations import RelationsObjective
from kd_dist.config.stages import TrainStage
from kd_dist.models.attention import Attention
from kd_dist.models.loading import load_config
from kd_dist.models.students import build_encoder
from kd_dist.models.teacher import Batch, Encoded, Wanted, encode
from kd_dist.objectives.base import Objective, Outcome
from kd_dist.objectives.relation_losses import relation_count, relation_divergence


class Relations(Objective):
    """Sums of the divergence of relations among queries, keys and values. Terms of weight 0 are not computed."""

    def __init__(self, student: PreTrainedModel, teacher: PretrainedConfig, settings: RelationsObjective) -> None:
        super().__init__()
        self.student = student
        self._heads = settings.heads(teacher.hidden_size, student.config.hidden_size)
        self._teacher_layer = settings.teacher_layer or teacher.num_hidden_layers
        self._terms = sorted(name for name, weight in settings.weights().items() if weight > 0)

    def wanted(self) -> Wanted:
        return Wanted(attention=frozenset({self._teacher_layer}))

    def counts(self, batch: Batch) -> dict[str, float]:
        return dict.fromkeys(self._terms, float(relation_count(batch["attention_mask"], self._heads)))

    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        assert teacher is not None
        last = self.student.config.num_hidden_layers
        own = _by_term(encode(self.student, batch, Wanted(attention=frozenset({last}))).attention[last])
        target = _by_term(teacher.attention[self._teacher_layer])
        mask_BS = batch["attention_mask"]
        return Outcome(
            {term: relation_divergence(own[term], target[term], mask_BS, self._heads) for term in self._terms}
        )


def _by_term(attention: Attention) -> dict[str, Tensor]:
    """Return queries, keys and values (B, S, D), the heads of each side by side."""
    assert attention.value_BHSK is not None
    factors = {"queries": attention.query_BHSK, "keys": attention.key_BHSK, "values": attention.value_BHSK}
    return {term: factor_BHSK.transpose(1, 2).flatten(2) for term, factor_BHSK in factors.items()}


def build(stage: TrainStage, tokenizer: Any) -> Relations:
    """Build the objective with its student."""
    assert isinstance(stage.objective, RelationsObjective)
    assert stage.teacher is not None
    return Relations(build_encoder(stage, tokenizer), load_config(stage.teacher.path), stage.objective)
