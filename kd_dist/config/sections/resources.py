"""Settings of the resources that a stage asks the cluster for."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Section, optional


class ProcessResources(Section):
    """The resources of a stage of one process."""

    cpus: int = Field(default=8, ge=1, description="CPU cores")
    memory_gb: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="memory; none: the cluster's default"
    )
    timeout_minutes: int = Field(default=240, ge=1, description="time limit")

    def world_size(self) -> int:
        """Return the number of ranks."""
        return 1


class CpuResources(ProcessResources):
    """The resources of a stage without GPUs."""


class GpuResources(Section):
    """The resources of a training stage: one rank per GPU, or per CPU share on a machine without GPUs."""

    nodes: int = Field(default=1, ge=1, description="machines")
    min_nodes: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None,
        ge=1,
        description="machines at least, where not all are free: each start takes as many as there are; none: all",
    )
    gpus_per_node: int = Field(
        default=1, ge=1, description="GPUs per machine, with a rank each; CPU ranks where there are no GPUs"
    )
    cpus_per_gpu: int = Field(default=4, ge=1, description="CPU cores per rank")
    memory_gb: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="memory per machine; none: the cluster's default"
    )
    timeout_minutes: int = Field(
        default=1440, ge=1, description="time limit; a run that reaches it is requeued and resumes"
    )

    def world_size(self) -> int:
        """Return the number of ranks."""
        return self.nodes * self.gpus_per_node

    def fewest_nodes(self) -> int:
        """Return the smallest number of machines that the stage starts on."""
        return self.nodes if self.min_nodes is None else self.min_nodes

    def problems(self, stage: str) -> list[str]:
        """Return what contradicts itself in the settings of the stage of that name."""
        if self.min_nodes is None or self.min_nodes <= self.nodes:
            return []
        asked = f"{stage}.resources.min_nodes={self.min_nodes}"
        return [f"{asked} is more than {stage}.resources.nodes={self.nodes}: lower the first or raise the second"]


class TaskResources(ProcessResources):
    """The resources of a stage of one process that uses a GPU where there is one."""

    gpus: int = Field(default=1, ge=0, le=1, description="1: use a GPU if the cluster has any; 0: use none")


class ShardResources(TaskResources):
    """The resources of each of the independent tasks of a stage."""

    shards: int = Field(default=1, ge=1, description="parts of the work, one array task each")
