"""How many ranks a stage has."""

from kd_dist.config.sections.resources import CpuResources, GpuResources, ShardResources, TaskResources


def test_ranks_are_machines_times_gpus() -> None:
    assert GpuResources(nodes=3, gpus_per_node=4).world_size() == 12


def test_every_other_stage_is_one_process() -> None:
    assert [kind().world_size() for kind in (CpuResources, TaskResources)] == [1, 1]
    assert ShardResources(shards=8).world_size() == 1  # of each task


def test_a_stage_that_needs_more_nodes_than_it_asks_for_is_refused() -> None:
    assert GpuResources(nodes=4, min_nodes=4).problems("distill") == []
    (problem,) = GpuResources(nodes=2, min_nodes=3).problems("distill")
    assert problem.startswith("distill.resources.min_nodes=3 is more than distill.resources.nodes=2")
