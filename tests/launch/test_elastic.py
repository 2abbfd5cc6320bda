"""A job that starts on as many nodes as are free."""

import subprocess
from pathlib import Path

import pytest

from kd_dist.config.sections.resources import GpuResources
from launch.cluster import Cluster, slurm_parameters
from launch.elastic import on_what_is_free


def test_srun_alone_is_told_the_number_of_tasks() -> None:
    resources = GpuResources(nodes=4, min_nodes=1, gpus_per_node=8, cpus_per_gpu=3)
    usual = slurm_parameters(
        Cluster(), name="n", resources=resources, code=Path("/c"), log=Path("/l"), dependencies=["7"]
    )
    asked = on_what_is_free(usual, [4, 2, 1])
    assert "ntasks_per_node" not in asked
    assert {key: asked["additional_parameters"][key] for key in ("nodes", "mincpus")} == {"nodes": "1-4", "mincpus": 24}
    assert asked["srun_args"] == [*usual["srun_args"], "--ntasks-per-node=8"]
    assert {key: asked[key] for key in ("dependency", "gpus_per_node", "cpus_per_task")} == {
        "dependency": "afterok:7",
        "gpus_per_node": 8,
        "cpus_per_task": 3,
    }


@pytest.mark.parametrize(("given", "used"), [(1, 1), (2, 2), (3, 2), (4, 4)])
def test_a_node_is_left_unused_where_the_batch_does_not_divide(given: int, used: int) -> None:
    usual = {
        "ntasks_per_node": 1,
        "cpus_per_task": 1,
        "srun_args": [],
        "additional_parameters": {},
        "setup": ["set -e"],
    }
    setup = on_what_is_free(usual, [4, 2, 1])["setup"]
    script = "\n".join([f"SLURM_JOB_NUM_NODES={given}", *setup, "echo $SLURM_NNODES $SLURM_JOB_NUM_NODES"])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{used} {used}\n"
