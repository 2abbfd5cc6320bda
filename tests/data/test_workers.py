"""Results and errors come in the order of the tasks, whoever is done first."""

import os
import time
from collections.abc import Iterator

import pytest

from kd_dist.data.workers import in_order
from kd_dist.errors import CorpusError


def slow_at_first(number: int) -> int:
    time.sleep(0.1 if number == 0 else 0)
    return 10 * number


def refuse_two(number: int) -> int:
    if number == 2:
        raise CorpusError("task 2")
    return number


def numbers_and_failure() -> Iterator[int]:
    yield from range(4)
    raise CorpusError("no more tasks")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_are_in_order(num_workers: int):
    assert list(in_order(slow_at_first, range(20), num_workers)) == list(range(0, 200, 10))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_first_error_is_raised_although_reading_ahead_has_failed(num_workers: int):
    results = in_order(refuse_two, numbers_and_failure(), num_workers)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(CorpusError, match="task 2"):
        next(results)
    with pytest.raises(CorpusError, match="no more tasks"):
        list(in_order(slow_at_first, numbers_and_failure(), num_workers))


def test_a_single_task_takes_no_process():
    assert list(in_order(lambda _: os.getpid(), [0], 8)) == [os.getpid()]
