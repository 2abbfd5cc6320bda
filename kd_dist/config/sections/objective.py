"""The section of an objective: what a method can be told, asks for, and finds wrong.

Each file in kd_dist/config/objectives/ holds the section of one method; the objective itself, which needs torch, is the
file of the same name in kd_dist/objectives/. Nothing else names a method.
"""

import importlib
import pkgutil
from typing import Any, ClassVar, Literal

from pydantic import Field

from kd_dist.config.sections.base import Section
from kd_dist.config.tasks import Task

Compat = Literal["none", "huawei"]
ModelConfig = dict[str, Any]


class ObjectiveSection(Section):
    """The settings of one method, and what the rest of the project may ask of it."""

    name: str = Field(description="the method")

    trains_branches: ClassVar[bool] = False
    """Whether a classifier (`model.path`) is trained further in place of a student or an encoder."""
    reads_teacher_outputs: ClassVar[bool] = False
    """Whether the teacher's logits, written before, can take the place of a teacher that runs along."""

    def weights(self) -> dict[str, float]:
        """Return the weight of each loss term."""
        raise NotImplementedError

    def problems(self, stage: Any) -> list[str]:
        """Return what is wrong with these settings, by themselves and beside the other settings of the train stage."""
        return []

    def task_problems(self, task: Task) -> list[str]:
        """Return why the method cannot learn from labels of this task."""
        return []

    def architecture_problems(self, teacher: ModelConfig, student: ModelConfig) -> list[str]:
        """Return why this student cannot learn from this teacher; both as their config.json says."""
        return []

    def training_problems(self, config: ModelConfig) -> list[str]:
        """Return why the method cannot train a model with this config.json: what follows the model's name."""
        return []

    def needs_word_starts(self) -> bool:
        """Say whether rows must hold the borders of words (`data.word_starts`)."""
        return False

    def result_name(self, has_student: bool) -> str:
        """Return the name of the trained model in results; without a student it is an encoder that was fine-tuned."""
        return "student" if has_student else "teacher"


def objective_sections() -> tuple[type[ObjectiveSection], ...]:
    """Import every file in kd_dist/config/objectives/ and return its section, in the order of the files' names."""
    package = importlib.import_module("kd_dist.config.objectives")
    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
    ]
    return tuple(
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, ObjectiveSection) and found.__module__ == module.__name__
    )
