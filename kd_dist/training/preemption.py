"""Turn signals into a request to stop that all ranks agree on at a step boundary.

A signal handler must not save anything: saving is collective, and a handler runs between any two bytecodes.
"""

import os
import signal
from types import FrameType
from typing import Any

from kd_dist.training.distributed import DelayedMaximum

SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


class Preemption:
    """A context in which SIGUSR2, SIGTERM and SIGINT ask the run to save and stop.

    Attributes:
        previous_handlers: The handlers before, such as that of `submitit` for SIGUSR2; they are restored on exit.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._received = 0
        self._agreement = DelayedMaximum()
        self.previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        for number in SIGNALS:
            self.previous_handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        if exception[0] is None:
            self._agreement.finish()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # Schedulers signal every process of a step; a forked process inherits this handler and must not act on it.
        # SIGUSR2 means "requeue me", which a later SIGTERM must not cancel.
        if os.getpid() == self._process and self._received != signal.SIGUSR2:
            self._received = number

    @property
    def received(self) -> int:
        """The signal that this process has received, or 0: what a stage of one process asks."""
        return self._received

    def agreed(self) -> int:
        """Return the signal that any rank had received one call ago, or 0; the same on every rank. Collective."""
        return self._agreement.exchange(self._received)
