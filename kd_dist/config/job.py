"""A job: its stages, the edges between them, and changes to its wiring."""

from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import Field

from kd_dist.config.sections.base import Section
from kd_dist.config.stage import WIRE
from kd_dist.config.stages import AnyStage
from kd_dist.errors import nearest

StageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")]
"""The name of a stage, which is also that of its folder, and part of the name of its job in SLURM's queue."""


class Job(Section):
    """Named stages in the order in which they run; the export of one of them is the job's result."""

    name: str
    description: str = Field(description="one line for --list")
    stages: dict[StageName, AnyStage]
    result: str = Field(description="the stage whose export becomes the export of the whole job")
    students_of: StageName | None = Field(
        default=None, description="the stage that `students` repeats for each student that it names"
    )
    together: dict[StageName, list[StageName]] = Field(
        default={},
        description="stages that train their students together, by the name of the stage that they are copies of",
    )
    seeded: list[str] = Field(default=[], description="stages that --seeds repeats with other seeds")
    notes: list[str] = Field(default=[], description="how the settings changed the stages, for the user to read")
    follows: dict[str, list[str]] = Field(
        default={}, description="a setting and the settings that take its value unless they are given"
    )
    given: dict[str, Any] = Field(default={}, description="the settings that the user gave, as typed")

    def edges(self) -> dict[str, list[str]]:
        """Return, for each stage, the stages of this job that it waits for, in order."""
        return {
            name: [other for other in self.stages if other in stage.inputs()] for name, stage in self.stages.items()
        }

    def companions(self, name: str) -> list[str]:
        """Return the other stages whose students are trained together with that of a stage."""
        return [other for names in self.together.values() if name in names for other in names if other != name]

    def copied(self, name: str) -> str:
        """Return the stage that one of several students' stages is a copy of; any other one is itself."""
        return next((stage for stage, copies in self.together.items() if name in copies), name)

    def with_stages(self, change: Callable[[Any], Any]) -> Self:
        """Return the job with every stage replaced by `change(stage)`."""
        return self.model_copy(update={"stages": {name: change(stage) for name, stage in self.stages.items()}})

    def adapted(self, stages: dict[str, AnyStage], notes: list[str]) -> Self:
        """Return the job with other stages and notes on why; seeds are for the stages that are left."""
        seeded = [name for name in self.seeded if name in stages]
        return self.model_copy(update={"stages": stages, "notes": notes, "seeded": seeded})

    def wire_problems(self) -> list[str]:
        """Return a message for each field that names an output of a stage that does not come before."""
        order = list(self.stages)
        return [
            f"{name}.{key}: `{WIRE}{other}` is not a stage before `{name}`{nearest(other, order[: order.index(name)])}"
            for name, stage in self.stages.items()
            for key, other in stage.wired_fields()
            if other not in order[: order.index(name)]
        ]


def replace_wire(stages: dict[str, AnyStage], wire: str, by: str) -> dict[str, AnyStage]:
    """Return the stages with every occurrence of `wire` replaced, so that nothing waits for its stage any more."""
    return {name: stage.rewired(lambda value: by if value == wire else value) for name, stage in stages.items()}


def drop_stages(stages: dict[str, AnyStage], *names: str) -> dict[str, AnyStage]:
    """Return the stages except the named ones."""
    return {name: stage for name, stage in stages.items() if name not in names}
