"""How many ranks a stage has."""

from kd_dist.config.sections.resources import CpuResources, GpuResources, ShardResources, TaskResources


def test_ranks_are_machines_times_gpus() -> None:
    assert GpuResources(nodes=3, gpus_per_node=4).world_size() == 12


def test_every_other_stage_is_one_process() -> None:
    assert [kind().world_size() for kind in (CpuResources, TaskResources)] == [1, 1]
    assert ShardResources(shards=8).world_size() == 1  # of each task
