"""Settings of FastBERT's self-distillation."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from kd_dist.config.sections.objective import ModelConfig, ObjectiveSection
from kd_dist.config.tasks import Task

Direction = Literal["teacher_student", "student_teacher"]


class FastBertObjective(ObjectiveSection):
    """FastBERT's self-distillation (Liu et al. 2020): branches learn from the final classifier of a frozen model."""

    trains_branches: ClassVar[bool] = True

    name: Literal["fastbert"] = Field(default="fastbert", description="branches learn from the final classifier")
    direction: Direction = Field(
        default="teacher_student",
        description="KL(teacher || student), as the first published code, or KL(student || teacher), as the paper",
    )
    branch_width: int = Field(default=128, ge=1, description="width of new branches; existing branches keep theirs")
    branch_heads: int = Field(default=2, ge=1, description="attention heads of a branch (second published code: 8)")
    branch_activation: Literal["tanh", "none"] = Field(
        default="tanh", description="activation after the projections of a branch (second published code: none)"
    )
    branch_mask: bool = Field(
        default=True, description="branches do not attend to padding (second published code: false)"
    )

    def weights(self) -> dict[str, float]:
        return {"branches": 1.0}

    def problems(self, stage: Any) -> list[str]:
        problems = []
        if stage.model is None:
            problems.append("there is no model to add branches to: set model.path to a trained classifier")
        if self.branch_width % self.branch_heads:
            problems.append(
                f"objective.branch_width={self.branch_width} does not divide among "
                f"objective.branch_heads={self.branch_heads}"
            )
        if stage.engine.activation_checkpointing:
            problems.append(
                "engine.activation_checkpointing=true does nothing where only branches learn: leave it out, or set "
                "finetune.engine.activation_checkpointing=true to use it for fine-tuning"
            )
        return problems

    def task_problems(self, task: Task) -> list[str]:
        if task != "regression":
            return []
        return ["data.task=regression predicts a number, which has no uncertainty for early exit to use"]

    def training_problems(self, config: ModelConfig) -> list[str]:
        if config["num_hidden_layers"] > 1:
            return []
        return ["has a single layer: there is no layer before the last to exit from"]

    def result_name(self, has_student: bool) -> str:
        return "fastbert"
