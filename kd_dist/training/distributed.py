"""Ranks: the only file that imports torch.distributed.

With one rank no process group is needed for the collectives here, but DeepSpeed wants one, so there always is one.
Everything below runs on the CPU group (gloo), so that it never waits for a GPU kernel.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from kd_dist.training.ports import free_port

# Ranks may wait for hours while rank 0 prepares a corpus.
PATIENCE = timedelta(days=2)

_cpu_group: dist.ProcessGroup | None = None


def set_environment_defaults() -> None:
    """A plain `python` is a world of one rank. DeepSpeed would otherwise look for MPI."""
    if "RANK" not in os.environ:
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def ranks_of_this_node() -> int:
    """torchrun and our launchers say it as LOCAL_WORLD_SIZE, deepspeed as LOCAL_SIZE."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)


def threads_per_rank() -> int:
    """The cores of this machine shared out among the ranks on it, so that CPU ranks do not fight for them."""
    return max(1, len(os.sched_getaffinity(0)) // ranks_of_this_node())


def cpu_group() -> dist.ProcessGroup:
    """The gloo group of all ranks. Collective at its first call."""
    global _cpu_group
    if _cpu_group is None:
        _cpu_group = dist.new_group(backend="gloo", timeout=PATIENCE)
    return _cpu_group


def barrier() -> None:
    """Wait for all ranks."""
    dist.barrier(group=cpu_group())


def broadcast(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    box = [value]
    dist.broadcast_object_list(box, src=0, group=cpu_group())
    return box[0]


def sum_over_ranks(values: Sequence[float]) -> list[float]:
    """Element-wise sums over all ranks, in double precision."""
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total, group=cpu_group())
    return total.tolist()


def gather(value: Any) -> list[Any]:
    """The values of all ranks, in the order of their ranks, on every rank."""
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=cpu_group())
    return values


class DelayedMaximum:
    """The largest value that any rank handed in, known one call later.

    Every call starts a reduction and returns the result of the one before, so nobody waits for a slower rank.
    """

    def __init__(self) -> None:
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def exchange(self, value: int) -> int:
        """Hand in this rank's value; get the maximum of the values of the previous call (0 at the first)."""
        result = 0
        if self._pending is not None:
            work, tensor = self._pending
            work.wait()
            result = int(tensor.item())
        tensor = torch.tensor(value, dtype=torch.int64)
        self._pending = (dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=cpu_group(), async_op=True), tensor)
        return result

    def finish(self) -> None:
        if self._pending is not None:
            self._pending[0].wait()
            self._pending = None


def shut_down() -> None:
    """Leave together: ranks that tear down while others still talk abort the job."""
    global _cpu_group
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()
    _cpu_group = None
