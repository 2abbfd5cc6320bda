"""Settings of FastBERT's self-distillation, and of training exits and backbone together."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from kd_dist.config.sections.objective import ModelConfig, ObjectiveSection, Parts
from kd_dist.config.tasks import Task

Direction = Literal["teacher_student", "student_teacher"]
Backbone = Literal["frozen", "joint", "alternating"]


class FastBertObjective(ObjectiveSection):
    """FastBERT's self-distillation (Liu et al. 2020): branches learn from the final classifier.

    The model is frozen as published, or learns from labels at the same time.
    """

    trains_branches: ClassVar[bool] = True

    name: Literal["fastbert"] = Field(default="fastbert", description="branches learn from the final classifier")
    backbone: Backbone = Field(
        default="frozen",
        description="frozen: only branches learn, as published; joint: the encoder learns with them, from labels too; "
        "alternating: in odd steps it learns from the last classifier alone (BERxiT)",
    )
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

    backbone_rate: float = Field(
        default=0.1,
        gt=0,
        description="learning rate of a backbone that learns, as a share of optim.learning_rate, which branches have",
    )
    branch_label_weight: float = Field(
        default=1.0,
        ge=0,
        description="weight of the labels for branches, beside that of the last classifier's prediction, which is 1; "
        "not used where the backbone is frozen",
    )

    def reads(self) -> Parts:
        return "layers"

    def trains_layers(self) -> bool:
        return self.backbone != "frozen"

    def weights(self) -> dict[str, float]:
        if self.backbone == "frozen":
            return {"branches": 1.0}
        return {"branches": 1.0, "branch_labels": self.branch_label_weight, "label": 1.0}

    def weights_at(self, step: int) -> dict[str, float]:
        last_alone = self.backbone == "alternating" and step % 2 == 1
        return {"branches": 0.0, "branch_labels": 0.0, "label": 1.0} if last_alone else self.weights()

    def learning_rate(self, width: int, has_student: bool, task: Task) -> float:
        return 1e-3  # of branches, whose width does not depend on the encoder's

    def problems(self, stage: Any) -> list[str]:
        problems = []
        if stage.model is None:
            problems.append("there is no model to add branches to: set model.path to a trained classifier")
        if self.branch_width % self.branch_heads:
            problems.append(
                f"objective.branch_width={self.branch_width} does not divide among "
                f"objective.branch_heads={self.branch_heads}"
            )
        if stage.engine.activation_checkpointing and self.backbone == "frozen":
            problems.append(
                "engine.activation_checkpointing=true does nothing where only branches learn: leave it out, or set "
                "finetune.engine.activation_checkpointing=true to use it for fine-tuning"
            )
        return problems

    def unlabelled_problems(self) -> list[str]:
        if self.backbone == "frozen":
            return []
        return [
            f"objective.backbone={self.backbone} trains the last classifier on labels, which data.unlabelled has not: "
            "set objective.backbone=frozen, or let branches learn from labelled rows (the job fastbert without "
            "data.unlabelled)"
        ]

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
