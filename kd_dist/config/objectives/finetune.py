"""Settings of training on labels."""

from typing import ClassVar, Literal

from pydantic import Field

from kd_dist.config.sections.objective import ObjectiveSection, Parts, classifier_rate_for
from kd_dist.config.tasks import Task


class FinetuneObjective(ObjectiveSection):
    """Training on labels alone."""

    trains_recurrent: ClassVar[bool] = True

    name: Literal["finetune"] = Field(default="finetune", description="learn from labels")
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: weight classes inversely to their number of rows"
    )

    def reads(self) -> Parts:
        return "predictions"

    def weights(self) -> dict[str, float]:
        return {"label": 1.0}

    def task_problems(self, task: Task) -> list[str]:
        if self.class_weights == "none" or task == "single_label":
            return []
        return [
            f"objective.class_weights={self.class_weights} is for data.task=single_label, but data.task={task}: set it "
            "to none"
        ]

    def learning_rate(self, width: int, has_student: bool, task: Task) -> float:
        return classifier_rate_for(width, 8e-5 if has_student else 4e-5, task)

    def result_name(self, has_student: bool) -> str:
        return "student_alone" if has_student else "teacher"
