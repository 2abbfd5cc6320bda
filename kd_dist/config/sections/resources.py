"""Sections that say what a stage asks of the cluster."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Section, optional


class ProcessResources(Section):
    """What a stage of one process asks of the cluster."""

    cpus: int = Field(default=8, ge=1, description="CPU cores")
    memory_gb: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="memory; none: the cluster's default"
    )
    timeout_minutes: int = Field(default=240, ge=1, description="time limit")

    def world_size(self) -> int:
        return 1


class CpuResources(ProcessResources):
    """A stage without GPUs."""


class GpuResources(Section):
    """What a training stage asks of the cluster: one task per GPU; on a machine without GPUs, one CPU rank each."""

    nodes: int = Field(default=1, ge=1, description="machines")
    gpus_per_node: int = Field(default=1, ge=1, description="GPUs and ranks of each; CPU ranks where there is no GPU")
    cpus_per_gpu: int = Field(default=4, ge=1, description="CPU cores of each rank")
    memory_gb: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="memory of a node; none: the cluster's default"
    )
    timeout_minutes: int = Field(default=1440, ge=1, description="time limit; a run that meets it goes on by itself")

    def world_size(self) -> int:
        return self.nodes * self.gpus_per_node


class TaskResources(ProcessResources):
    """A stage of one process, on a GPU where there is one."""

    gpus: int = Field(default=1, ge=0, le=1, description="1: on a GPU, where the cluster has any")


class ShardResources(TaskResources):
    """What each of the independent tasks of a stage asks of the cluster."""

    shards: int = Field(default=1, ge=1, description="parts of the work: an array job of as many tasks")
