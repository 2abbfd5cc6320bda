"""Calls aside are made in order, are not waited for, and end with the first that fails."""

import threading
import time

from kd_dist.runs.aside import Aside


def test_calls_are_made_in_order_and_not_waited_for() -> None:
    may_go_on, made = threading.Event(), []
    aside = Aside()
    aside.call(may_go_on.wait)
    for number in range(5):
        aside.call(lambda number=number: made.append(number))
    assert aside.num_waiting() >= 5
    assert made == []
    may_go_on.set()
    assert aside.end(seconds=10)
    assert made == [0, 1, 2, 3, 4]


def test_nothing_is_called_after_a_failure() -> None:
    made: list[int] = []
    aside = Aside(ZeroDivisionError)
    aside.call(lambda: 1 // 0)
    aside.call(lambda: made.append(1))
    assert aside.end(seconds=10)
    assert isinstance(aside.failure, ZeroDivisionError)
    assert made == []


def test_a_call_that_hangs_is_not_waited_for_longer_than_said() -> None:
    aside, for_ever = Aside(), threading.Event()
    aside.call(for_ever.wait)
    started = time.monotonic()
    assert not aside.end(seconds=0.05)
    assert time.monotonic() - started < 5
    for_ever.set()
