"""Let a job take at each start as many of its nodes as are free."""

from typing import Any


def on_what_is_free(parameters: dict[str, Any], node_counts: list[int]) -> dict[str, Any]:
    """Return the sbatch parameters of a job that starts on any of these numbers of nodes.

    sbatch multiplies tasks per node by the fewest nodes, and SLURM gives no more nodes than tasks: so a node is asked
    for the cores of its tasks, and srun alone knows their number.

    Args:
        parameters: Those of the job on all of its nodes.
        node_counts: Numbers of nodes, most first.
    """
    tasks = parameters["ntasks_per_node"]
    free = {"nodes": f"{node_counts[-1]}-{node_counts[0]}", "mincpus": tasks * parameters["cpus_per_task"]}
    return {
        **{key: value for key, value in parameters.items() if key != "ntasks_per_node"},
        "srun_args": [*parameters["srun_args"], f"--ntasks-per-node={tasks}"],
        "additional_parameters": parameters["additional_parameters"] | free,
        "setup": [*parameters["setup"], _use_at_most(node_counts)],
    }


def _use_at_most(node_counts: list[int]) -> str:
    """Return a line of the batch script that leaves a node unused where the global batch does not divide among all."""
    numbers = " ".join(map(str, node_counts))
    taken = "export SLURM_NNODES=$nodes SLURM_JOB_NUM_NODES=$nodes; break"
    return f"for nodes in {numbers}; do [ $nodes -gt $SLURM_JOB_NUM_NODES ] || {{ {taken}; }}; done"
