"""The machines of a site, and where among them a stage runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kd_dist.config.sections.resources import GpuResources, ShardResources, TaskResources
from kd_dist.planning.step_times import StepTimes

INSIDE_GBIT = 200
"""Bandwidth between the GPUs of one node that is assumed."""


@dataclass(frozen=True)
class Site:
    """Facts about the machines.

    Attributes:
        has_gpus: Whether stages that ask for GPUs get them; otherwise their ranks are on CPUs.
        cores: Of the one machine that all ranks share; None where every rank gets the cores that it asks for.
        gpus_of_a_node: How many ranks a node has room for.
        gbit: Bandwidth of the network between nodes.
        memory_gb: Of a GPU; None where it is unknown.
        times: Seconds of steps, of `gpu` and `cpu`.
    """

    has_gpus: bool
    cores: int | None
    gpus_of_a_node: int
    gbit: float
    memory_gb: float | None
    times: Mapping[str, StepTimes]

    def exchange_seconds(self, size: float, ranks: int) -> float:
        """Return the seconds in which ranks sum so many bytes over all of them, in a ring."""
        gbit = self.gbit if ranks > self.gpus_of_a_node else INSIDE_GBIT
        return 2 * (ranks - 1) / ranks * size * 8 / (gbit * 1e9)


@dataclass(frozen=True)
class Place:
    """Where a stage runs.

    Attributes:
        ranks: How many there are, or shards, at the same time.
        on_gpus: Whether each has a GPU.
        threads: Of each, on CPUs.
        times: Seconds of steps there.
    """

    ranks: int
    on_gpus: bool
    threads: int
    times: StepTimes

    @classmethod
    def of(cls, stage: Any, site: Site, ranks: int | None = None) -> Self:
        """Return where a stage runs with what it asks for, or with another number of ranks if it can have several."""
        resources = stage.resources
        ranks = ranks if isinstance(resources, GpuResources | ShardResources) else 1
        ranks = ranks or getattr(resources, "shards", None) or resources.world_size()
        wants_gpus = isinstance(resources, GpuResources) or (
            isinstance(resources, TaskResources) and resources.gpus > 0
        )
        on_gpus = wants_gpus and site.has_gpus
        asked = resources.cpus_per_gpu if isinstance(resources, GpuResources) else resources.cpus
        threads = max(1, site.cores // ranks) if site.cores else asked
        return cls(ranks, on_gpus, threads, site.times["gpu" if on_gpus else "cpu"])
