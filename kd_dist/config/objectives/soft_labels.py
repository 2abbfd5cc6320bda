"""Settings of prediction distillation."""

from typing import ClassVar, Literal

from pydantic import Field

from kd_dist.config.sections.objective import Compat, ObjectiveSection, Parts, classifier_rate_for
from kd_dist.config.tasks import Task


class SoftLabelsObjective(ObjectiveSection):
    """Prediction distillation (Hinton et al. 2015; TinyBERT's equation 10)."""

    reads_teacher_outputs: ClassVar[bool] = True
    trains_recurrent: ClassVar[bool] = True

    name: Literal["soft_labels"] = Field(default="soft_labels", description="learn from the teacher's prediction")
    temperature: float = Field(default=1.0, gt=0, description="softmax temperature of teacher and student")
    compat: Compat = Field(
        default="none",
        description="huawei: the reduction of the published code (mean over classes too, no temperature squared)",
    )
    soft_weight: float = Field(
        default=1.0, ge=0, description="weight of the cross-entropy with the teacher's prediction"
    )
    hard_weight: float = Field(
        default=0.0, ge=0, description="weight of the cross-entropy with the label, of rows that have one"
    )
    logits_weight: float = Field(default=0.0, ge=0, description="weight of the squared difference of the logits")

    def reads(self) -> Parts:
        return "predictions"

    def weights(self) -> dict[str, float]:
        return {"soft": self.soft_weight, "hard": self.hard_weight, "logits": self.logits_weight}

    def learning_rate(self, width: int, has_student: bool, task: Task) -> float:
        return classifier_rate_for(width, 8e-5, task)
