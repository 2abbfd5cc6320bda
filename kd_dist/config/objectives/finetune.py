"""Settings of learning from labels."""

from typing import Literal

from pydantic import Field

from kd_dist.config.sections.objective import ObjectiveSection
from kd_dist.config.tasks import Task


class FinetuneObjective(ObjectiveSection):
    """Learning from labels alone."""

    name: Literal["finetune"] = Field(default="finetune", description="learn from labels")
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: a class counts in inverse proportion to its rows"
    )

    def weights(self) -> dict[str, float]:
        return {"label": 1.0}

    def task_problems(self, task: Task) -> list[str]:
        if self.class_weights == "none" or task == "single_label":
            return []
        return [f"objective.class_weights weighs single labels, but data.task={task}"]

    def result_name(self, has_student: bool) -> str:
        return "student_alone" if has_student else "teacher"
