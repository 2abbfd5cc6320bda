"""What every stage of a job has: sections of settings, wires to earlier stages, and an entry point.

A string that begins with `@` names an output of an earlier stage (`@labelled/tokens`). Such a field is *wired*: it is
an edge of the stage graph, and is replaced by a path in the run folder when the run is written.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

from kd_dist.config.sections.base import Section

WIRE = "@"


def wired_stage(value: str) -> str:
    """Return the stage that a wire names: `labelled` for `@labelled/tokens`."""
    return value.removeprefix(WIRE).split("/")[0]


class Stage(Section):
    """One step of a job: its entry point, its settings, and the resources it asks the cluster for."""

    entry: ClassVar[str]
    """`module:function` that runs the stage, called with the stage, its folder and the shard."""

    keeps: ClassVar[str | None] = None
    """Pattern, in the stage's folder, of what a try that is cut short leaves to the next; None: it leaves nothing."""

    def sections(self) -> Iterator[tuple[str, Section]]:
        """Yield the name and the settings of every section that the stage has."""
        for name in type(self).model_fields:
            if isinstance(value := getattr(self, name), Section):
                yield name, value

    def with_sections(self, change: Callable[[str, Section], Section]) -> Self:
        """Return the stage with every section replaced by `change(name, section)`."""
        return self.model_copy(update={name: change(name, section) for name, section in self.sections()})

    def rewired(self, change: Callable[[str], str]) -> Self:
        """Return the stage with every string in its sections, wires included, replaced by `change(value)`."""
        return self.with_sections(
            lambda _, section: section.with_changed(tuple(type(section).model_fields), lambda _, value: change(value))
        )

    def options(self) -> Iterator[str]:
        """Yield every `section.key` that can be set."""
        for name, section in self.sections():
            yield from (f"{name}.{key}" for key in type(section).model_fields if key != "name")

    def wired_fields(self) -> Iterator[tuple[str, str]]:
        """Yield the `section.key` of every wired string and the stage that it names."""
        for name, section in self.sections():
            for key, value in section.named(tuple(type(section).model_fields)):
                if isinstance(value, str) and value.startswith(WIRE):
                    yield f"{name}.{key}", wired_stage(value)

    def wires(self) -> set[str]:
        """Return the `section.key` of every field that an earlier stage feeds."""
        return {key for key, _ in self.wired_fields()}

    def inputs(self) -> set[str]:
        """Return the names of the stages that must be complete before this one."""
        return {stage for _, stage in self.wired_fields()}

    def named_paths(self) -> Iterator[tuple[str, str]]:
        """Yield the `section.key` and the value of every path that is not wired; names of hub models are among them."""
        for name, section in self.sections():
            for key, value in section.named(section.PATHS + section.MODELS):
                if not value.startswith(WIRE):
                    yield f"{name}.{key}", value

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the result; where it runs, how fast, and how often it is saved do not."""
        return self.model_dump(
            exclude={
                "resources": True,
                "cadence": True,
                "tracking": True,
                "engine": {"zero_stage", "activation_checkpointing", "hang_minutes"},
                "data": {"num_workers"},
                "train": {"profile_steps"},
            }
        )

    def needs_gpus(self) -> bool:
        """Return whether the stage runs on all ranks, with a GPU for each where there are any."""
        return False

    def problems(self, name: str) -> list[str]:
        """Return what is wrong with the settings by themselves, without looking at files or other stages.

        Args:
            name: What the stage is called in its job, for settings that the messages propose.
        """
        return []
