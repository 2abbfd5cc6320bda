"""Calls that are made one after another in a thread of its own, so that nobody has to wait for them."""

import queue
import threading
from collections.abc import Callable
from typing import Any


class Aside:
    """A thread that makes calls in their order, and none after one that has failed.

    Args:
        failures: The exceptions by which a call may fail.

    Attributes:
        failure: The exception of the call that has failed, if one has.
    """

    def __init__(self, *failures: type[Exception]) -> None:
        self.failure: Exception | None = None
        self._failures = failures
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        # A daemon, because a call that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="aside", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Any]) -> None:
        """Make a call as soon as those before it are done."""
        self._calls.put(function)

    def num_waiting(self) -> int:
        """Return how many calls have not begun."""
        return self._calls.qsize()

    def end(self, seconds: float) -> bool:
        """Wait until all calls are done, or one has failed; return False if that takes longer than some seconds."""
        self._calls.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while self.failure is None and (function := self._calls.get()) is not None:
            try:
                function()
            except self._failures as error:
                self.failure = error
