"""Ranks and the collectives between them; the only file that imports torch.distributed.

There is a process group even with one rank, because DeepSpeed needs one. All collectives here use the CPU group (gloo),
so that they never wait for a GPU kernel. All ranks must call them in the same order.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from kd_dist.errors import RunError, UserError
from kd_dist.training.ports import free_port

T = TypeVar("T")

# Ranks may wait for hours while rank 0 prepares a corpus.
PATIENCE = timedelta(days=2)

_cpu_group: dist.ProcessGroup | None = None


def set_environment_defaults() -> None:
    """Make a process that no launcher started the only rank; DeepSpeed would otherwise look for MPI."""
    if "RANK" not in os.environ:
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))


def rank() -> int:
    """Return the number of this rank, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of ranks."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def ranks_of_this_node() -> int:
    """Return the number of ranks on this machine.

    It is in LOCAL_WORLD_SIZE with torchrun and our launchers, and in LOCAL_SIZE with deepspeed.
    """
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)


def threads_per_rank() -> int:
    """Return this rank's share of the cores of the machine, so that CPU ranks do not compete for them."""
    return max(1, len(os.sched_getaffinity(0)) // ranks_of_this_node())


def cpu_group() -> dist.ProcessGroup:
    """Return the gloo group of all ranks. The first call is collective."""
    global _cpu_group
    if _cpu_group is None:
        _cpu_group = dist.new_group(backend="gloo", timeout=PATIENCE)
    return _cpu_group


def barrier() -> None:
    """Wait for all ranks. Collective."""
    dist.barrier(group=cpu_group())


def broadcast(value: Any) -> Any:
    """Return rank 0's value on every rank. Collective."""
    box = [value]
    dist.broadcast_object_list(box, src=0, group=cpu_group())
    return box[0]


def from_rank_0(action: Callable[[], T]) -> T:
    """Let rank 0 alone act, and return its result on every rank. Collective.

    Raises:
        UserError, RunError: Rank 0 raised it; every rank raises it.
    """
    result: T | UserError | RunError | None = None
    if rank() == 0:
        try:
            result = action()
        except (UserError, RunError) as error:
            result = error
    told = broadcast(result)
    if isinstance(told, (UserError, RunError)):
        raise told
    return cast("T", told)


class PendingSums:
    """Element-wise sums over all ranks, in double precision, on their way from the others; made by `begin_sums`."""

    def __init__(self, totals: torch.Tensor, work: dist.Work) -> None:
        self._totals, self._work = totals, work

    def wait(self) -> list[float]:
        """Return the sums."""
        self._work.wait()
        return self._totals.tolist()


def begin_sums(values: Sequence[float]) -> PendingSums:
    """Begin to sum values over all ranks, without waiting for them. Collective."""
    totals = torch.tensor(values, dtype=torch.float64)
    return PendingSums(totals, dist.all_reduce(totals, group=cpu_group(), async_op=True))


def sum_over_ranks(values: Sequence[float]) -> list[float]:
    """Return the element-wise sums over all ranks, in double precision. Collective."""
    return begin_sums(values).wait()


def gather(value: Any) -> list[Any]:
    """Return the values of all ranks, in rank order, on every rank. Collective."""
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=cpu_group())
    return values


def exchange_places(place: str, seconds: float) -> list[str]:
    """Return what each rank says within some seconds about where it is; not by a group, which may be what hangs."""
    # In a thread, because the store, which is a part of rank 0's process, may never answer.
    asking = ThreadPoolExecutor(max_workers=1).submit(_exchange_places, place, seconds)
    try:
        return asking.result(timeout=3 * seconds)
    except (TimeoutError, dist.DistError):
        places = {0: "no answer, and it keeps the places of all others", rank(): place}
        return [places.get(other, "unknown") for other in range(world_size())]


def _exchange_places(place: str, seconds: float) -> list[str]:
    # A connection of its own to the store where the ranks met, since the other one may be waited for.
    address, port, patience = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timedelta(seconds=seconds)
    board = dist.TCPStore(address, port, is_master=False, timeout=patience)
    board.set(f"place/{rank()}", place)
    time.sleep(seconds)
    silent = "no answer: it is stopped or gone, or not at a step"
    keys = [f"place/{other}" for other in range(world_size())]
    places = [board.get(key).decode() if board.check([key]) else silent for key in keys]
    board.set(f"read/{rank()}", "")
    if rank() == 0:  # the store ends with this process, and others began to ask later
        with contextlib.suppress(dist.DistStoreError):
            board.wait([f"read/{other}" for other, place in enumerate(places) if place != silent], patience)
    return places


class DelayedMaximum:
    """The maximum over all ranks, with a delay of one call.

    Every call starts a reduction and returns the result of the previous one, so that no rank waits for a slower one.
    """

    def __init__(self) -> None:
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def exchange(self, value: int) -> int:
        """Contribute a value; return the maximum of the previous call (0 at the first). Collective."""
        result = 0
        if self._pending is not None:
            work, tensor = self._pending
            work.wait()
            result = int(tensor.item())
        tensor = torch.tensor(value, dtype=torch.int64)
        self._pending = (dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=cpu_group(), async_op=True), tensor)
        return result

    def finish(self) -> None:
        """Wait for the last reduction."""
        if self._pending is not None:
            self._pending[0].wait()
            self._pending = None


def shut_down() -> None:
    """Leave the process group together; a rank that left while others communicate would abort the job. Collective."""
    global _cpu_group
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()
    _cpu_group = None
