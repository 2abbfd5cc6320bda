"""Apply a function to many tasks in processes, in order."""

import collections
import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Generic, TypeVar

from kd_dist.errors import UserError

Task = TypeVar("Task")

Result = TypeVar("Result")

TASKS_PER_WORKER = 2  # under way or waiting: enough that no worker waits, few enough that they are no burden on memory


class UntilFailure(Generic[Task]):
    """Yield items until one cannot be read, and remember why, so that those before it are dealt with first."""

    def __init__(self, items: Iterable[Task]) -> None:
        self._items = items
        self.failure: UserError | None = None

    def __iter__(self) -> Iterator[Task]:
        try:
            yield from self._items
        except UserError as error:
            self.failure = error

    def finish(self) -> None:
        """Raise what ended the items early."""
        if self.failure is not None:
            raise self.failure


def in_order(function: Callable[[Task], Result], tasks: Iterable[Task], num_workers: int) -> Iterator[Result]:
    """Yield the results of all tasks in their order; a single worker is this process.

    Args:
        function: is called with a task, in a forked process.
        tasks: are read a few ahead of the results.
        num_workers: processes, of which there are no more than tasks; 0: one per available core.

    Raises:
        UserError: the first one of the tasks in their order, and then what their iterator raises.
    """
    source = UntilFailure(tasks)
    waiting = iter(source)
    first = list(itertools.islice(waiting, num_workers or len(os.sched_getaffinity(0))))
    every = itertools.chain(first, waiting)
    yield from map(function, every) if len(first) < 2 else _in_processes(function, every, len(first))
    source.finish()


def _in_processes(function: Callable[[Task], Result], tasks: Iterable[Task], num_workers: int) -> Iterator[Result]:
    under_way: collections.deque[Future[Result]] = collections.deque()
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("fork"))
    try:
        for task in tasks:
            under_way.append(pool.submit(function, task))
            if len(under_way) >= TASKS_PER_WORKER * num_workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
