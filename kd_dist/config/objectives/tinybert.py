"""Settings of TinyBERT's layer distillation."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import listed
from kd_dist.config.sections.objective import Compat, ModelConfig, ObjectiveSection, Parts, rate_for
from kd_dist.config.tasks import Task


class TinyBertObjective(ObjectiveSection):
    """TinyBERT's layer distillation (Jiao et al. 2020, equations 7 to 9)."""

    name: Literal["tinybert"] = Field(default="tinybert", description="TinyBERT layer distillation")
    layer_map: Annotated[list[int] | None, BeforeValidator(listed)] = Field(
        default=None,
        description="teacher layer (from 1) that each student layer imitates; none: evenly spaced",
    )
    attention: Literal["centred", "raw", "none"] = Field(
        default="centred",
        description="attention scores to compare. centred: without each query's mean over its keys, which softmax "
        "ignores; raw: as published; none: leave the term out",
    )
    units: Literal["relative", "absolute"] = Field(
        default="relative",
        description="relative: every term as a share of the teacher's own variance in that layer, 1 = as bad as its "
        "mean; absolute: mean squared differences, as published",
    )
    compat: Compat = Field(
        default="none",
        description="huawei: the reduction of the published code (padded query rows included, plain means), with "
        "objective.attention=raw and objective.units=absolute",
    )
    projection: Literal["paper", "shared", "per_layer"] = Field(
        default="paper",
        description="matrices from student to teacher width: one for the embeddings and one for all layers (paper), "
        "one for all (first published code), or one each (second published code)",
    )
    temperature: float = Field(default=1.0, gt=0, description="must be 1: layers have no predictions to soften")
    attention_weight: float = Field(default=1.0, ge=0, description="weight of the attention-score term")
    hidden_weight: float = Field(default=1.0, ge=0, description="weight of the hidden-state term")
    embeddings_weight: float = Field(default=1.0, ge=0, description="weight of the embedding term")

    def attention_form(self) -> Literal["centred", "raw", "none"]:
        """Return the scores that are compared: `attention`, but the published ones where the code's reduction is."""
        return "raw" if self.compat == "huawei" and self.attention != "none" else self.attention

    def is_relative(self) -> bool:
        """Return whether terms are shares of the teacher's variance; the published reduction has no such form."""
        return self.units == "relative" and self.compat == "none"

    def reads(self) -> Parts:
        return "attention" if self.weights()["attention"] else "hidden states"

    def weights(self) -> dict[str, float]:
        return {
            "attention": 0.0 if self.attention == "none" else self.attention_weight,
            "hidden": self.hidden_weight,
            "embeddings": self.embeddings_weight,
        }

    def mapped_layers(self, student_layers: int, teacher_layers: int) -> list[int]:
        """Return the teacher layer (from 1) of each student layer: `layer_map`, or evenly spaced layers."""
        if self.layer_map is not None:
            return self.layer_map
        return [layer * teacher_layers // student_layers for layer in range(1, student_layers + 1)]

    def learning_rate(self, width: int, has_student: bool, task: Task) -> float:
        return rate_for(width, 2e-4)

    def problems(self, stage: Any) -> list[str]:
        if self.temperature == 1.0:
            return []
        return [
            f"objective.temperature={self.temperature} softens predictions, but this stage distils only layers: leave "
            "it at 1"
        ]

    def architecture_problems(self, teacher: ModelConfig, student: ModelConfig) -> list[str]:
        return [*self._head_problems(teacher, student), *self._layer_problems(teacher, student)]

    def _head_problems(self, teacher: ModelConfig, student: ModelConfig) -> list[str]:
        heads = teacher["num_attention_heads"], student["num_attention_heads"]
        if self.weights()["attention"] == 0 or heads[0] == heads[1]:
            return []
        return [
            f"the teacher has {heads[0]} attention heads and the student {heads[1]}: their scores cannot be compared. "
            f"Choose a student with {heads[0]} heads (student.config), or set objective.attention=none"
        ]

    def _layer_problems(self, teacher: ModelConfig, student: ModelConfig) -> list[str]:
        there, wanted = teacher["num_hidden_layers"], student["num_hidden_layers"]
        if self.layer_map is None:
            message = f"the student's {wanted} layers are more than the teacher's {there}: set objective.layer_map"
            return [message] if there < wanted else []
        problems = []
        if len(self.layer_map) != wanted:
            problems.append(
                f"objective.layer_map={self.layer_map} names {len(self.layer_map)} teacher layers, but the student has "
                f"{wanted} layers: name one for each"
            )
        if outside := [layer for layer in self.layer_map if not 1 <= layer <= there]:
            problems.append(f"objective.layer_map names layers {outside}: the teacher's layers are 1 to {there}")
        return problems
