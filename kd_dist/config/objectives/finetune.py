"""Settings of training on labels."""

from typing import ClassVar, Literal

from pydantic import Field

from kd_dist.config.sections.objective import ObjectiveSection, Parts, rate_for
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
        # An encoder that learns several labels at the gentler rate was behind its own student
        # (docs/what_distillation_buys.md).
        is_gentle = not has_student and task != "multi_label"
        return rate_for(width, 4e-5 if is_gentle else 8e-5)

    def result_name(self, has_student: bool) -> str:
        return "student_alone" if has_student else "teacher"
