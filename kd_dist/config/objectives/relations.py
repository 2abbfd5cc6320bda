"""Settings of MiniLMv2's distillation of self-attention relations."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import optional
from kd_dist.config.sections.objective import ModelConfig, ObjectiveSection, rate_for
from kd_dist.config.tasks import Task

MOST_HEADS = 48  # what the paper gives a teacher of BERT-base's size


class RelationsObjective(ObjectiveSection):
    """MiniLMv2's distillation of the relations of queries, keys and values (Wang et al. 2021, equations 5 to 8)."""

    name: Literal["relations"] = Field(default="relations", description="MiniLMv2: relations of queries, keys, values")
    relation_heads: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None,
        ge=1,
        description="parts of equal size that each width is cut into; none: as many as divide both, at most "
        f"{MOST_HEADS}",
    )
    teacher_layer: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None,
        ge=1,
        description="teacher layer (from 1) that the student's last one imitates; none: the last. The paper takes "
        "layer 21 of teachers with 24",
    )
    queries_weight: float = Field(default=1.0, ge=0, description="weight of the relations among queries")
    keys_weight: float = Field(default=1.0, ge=0, description="weight of the relations among keys")
    values_weight: float = Field(default=1.0, ge=0, description="weight of the relations among values")

    def weights(self) -> dict[str, float]:
        return {"queries": self.queries_weight, "keys": self.keys_weight, "values": self.values_weight}

    def heads(self, teacher_width: int, student_width: int) -> int:
        """Return the number of relation heads for these widths."""
        common = math.gcd(teacher_width, student_width)
        return self.relation_heads or max(heads for heads in range(1, MOST_HEADS + 1) if common % heads == 0)

    def learning_rate(self, width: int, has_student: bool, task: Task) -> float:
        return rate_for(width, 2e-4)

    def problems(self, stage: Any) -> list[str]:
        if any(self.weights().values()):
            return []
        return ["objective.queries_weight, keys_weight and values_weight are all 0, so there is nothing to learn"]

    def architecture_problems(self, teacher: ModelConfig, student: ModelConfig) -> list[str]:
        widths, layers = (teacher["hidden_size"], student["hidden_size"]), teacher["num_hidden_layers"]
        common, problems = math.gcd(*widths), []
        if common % self.heads(*widths):
            problems.append(
                f"objective.relation_heads={self.relation_heads} does not divide the widths of teacher ({widths[0]}) "
                f"and student ({widths[1]}): set a divisor of {common}, such as {self._nearest_divisor(common)}"
            )
        if self.teacher_layer is not None and self.teacher_layer > layers:
            problems.append(f"objective.teacher_layer={self.teacher_layer}: the teacher's layers are 1 to {layers}")
        return problems

    def _nearest_divisor(self, common: int) -> int:
        divisors = [heads for heads in range(1, common + 1) if common % heads == 0]
        return min(divisors, key=lambda heads: abs(heads - (self.relation_heads or MOST_HEADS)))
