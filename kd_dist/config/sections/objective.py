"""The base class of objective sections: the settings of a method, its requirements and its checks.

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

Parts = Literal["predictions", "hidden states", "attention", "layers"]
"""What a method can need of models: any family has predictions; layers are run one by one."""


def rate_for(width: int, at_768: float) -> float:
    """Return a learning rate for a model of this width from that for the width of BERT-base; at most 1e-3.

    The narrower a model, the larger the steps that it bears, in inverse proportion over the widths that were tried
    (312 to 768).
    """
    return min(1e-3, at_768 * 768 / width)


def classifier_rate_for(width: int, at_768: float, task: Task) -> float:
    """Return `rate_for` a classifier, from the rate for one label: twice that where a text may have several labels.

    Of many labels most have few rows, and are not learnt in time at the rate that suits one label: neither by a
    fine-tuned encoder nor by a student (docs/what_distillation_buys.md).
    """
    return rate_for(width, at_768 * (2 if task == "multi_label" else 1))


class ObjectiveSection(Section):
    """The settings of one method, and the questions that the rest of the project asks about it."""

    name: str = Field(description="the method")

    trains_branches: ClassVar[bool] = False
    """Whether the method trains branches of a classifier (`model.path`) instead of a student or an encoder."""
    reads_teacher_outputs: ClassVar[bool] = False
    """Whether the method can read precomputed teacher logits instead of running the teacher."""

    trains_recurrent: ClassVar[bool] = False
    """Whether the method can train a recurrent student, which has logits alone: no layers or attention to compare."""

    def reads(self) -> Parts:
        """Return what the method needs of student and teacher: fewer families have the later of `Parts`."""
        return "attention"

    def weights(self) -> dict[str, float]:
        """Return the weight of each loss term."""
        raise NotImplementedError

    def weights_at(self, step: int) -> dict[str, float]:
        """Return the weight of each loss term in the training step of this number, from 1; mostly the same in all."""
        return self.weights()

    def problems(self, stage: Any) -> list[str]:
        """Return what is wrong with these settings, by themselves and together with the rest of the train stage."""
        return []

    def task_problems(self, task: Task) -> list[str]:
        """Return why the method cannot learn from labels of this task."""
        return []

    def architecture_problems(self, teacher: ModelConfig, student: ModelConfig) -> list[str]:
        """Return why this student cannot learn from this teacher; both are given by their config.json."""
        return []

    def training_problems(self, config: ModelConfig) -> list[str]:
        """Return why the method cannot train a model with this config.json, as clauses that follow the model's name."""
        return []

    def unlabelled_problems(self) -> list[str]:
        """Return why the method cannot learn from texts without labels (`data.unlabelled`)."""
        return []

    def trains_layers(self) -> bool:
        """Return whether the layers of the model learn, and not only what the method adds to them."""
        return True

    def needs_word_starts(self) -> bool:
        """Return whether rows must hold word boundaries (`data.word_starts`)."""
        return False

    def learning_rate(self, width: int, has_student: bool, task: Task) -> float:
        """Return the peak learning rate for a model of this width, where none is given: the wider, the lower.

        Args:
            width: Hidden size of the model that is trained.
            has_student: Whether it is a student; otherwise it is a pretrained encoder that is fine-tuned.
            task: What the labels are; of a model without any, single_label.
        """
        return rate_for(width, 1e-4)

    def result_name(self, has_student: bool) -> str:
        """Return the name of the trained model in results; without a student, a fine-tuned encoder was trained."""
        return "student" if has_student else "teacher"


def objective_sections() -> tuple[type[ObjectiveSection], ...]:
    """Import every file in kd_dist/config/objectives/ and return their sections, ordered by file name."""
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
