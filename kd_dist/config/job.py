"""A job: named stages, and how they are rewired."""

from collections.abc import Callable
from typing import Any, Self

from pydantic import Field

from kd_dist.config.sections.base import Section
from kd_dist.config.stages import WIRE, AnyStage
from kd_dist.errors import nearest


class Job(Section):
    """Named stages in the order in which they run, and the stage whose export is the job's result."""

    name: str
    description: str = Field(description="one line for --list")
    stages: dict[str, AnyStage]
    result: str = Field(description="the stage whose export becomes the export of the whole job")
    seeded: list[str] = Field(default=[], description="stages that --seeds repeats")
    notes: list[str] = Field(default=[], description="what the settings made of the job, for the user to know")
    follows: dict[str, list[str]] = Field(
        default={}, description="a setting and those that take its value, unless they are given themselves"
    )
    given: dict[str, Any] = Field(default={}, description="the settings that the user gave, as they were typed")

    def edges(self) -> dict[str, list[str]]:
        """Stage -> the stages of this job that it waits for, in order."""
        return {
            name: [other for other in self.stages if other in stage.inputs()] for name, stage in self.stages.items()
        }

    def with_stages(self, change: Callable[[Any], Any]) -> Self:
        """This job with `change(stage)` in place of every stage."""
        return self.model_copy(update={"stages": {name: change(stage) for name, stage in self.stages.items()}})

    def wire_problems(self) -> list[str]:
        """Fields that name an output of a stage that is not there, or does not come before."""
        order = list(self.stages)
        return [
            f"{name}.{key}: `{WIRE}{other}` is no stage before `{name}`{nearest(other, order[: order.index(name)])}"
            for name, stage in self.stages.items()
            for key, other in stage.wired_fields()
            if other not in order[: order.index(name)]
        ]


def bypassed(stages: dict[str, AnyStage], wire: str, by: str) -> dict[str, AnyStage]:
    """The stages with `by` in place of a wire, so that the stage that it leads to is no longer needed."""
    return {name: stage.rewired(lambda value: by if value == wire else value) for name, stage in stages.items()}


def without(stages: dict[str, AnyStage], *names: str) -> dict[str, AnyStage]:
    """The stages but those that are named."""
    return {name: stage for name, stage in stages.items() if name not in names}
