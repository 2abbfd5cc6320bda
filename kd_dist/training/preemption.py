"""A signal becomes a flag that all ranks agree on at a step boundary.

Nothing is saved inside a signal handler: saving is collective, and a handler runs between any two bytecodes.
"""

import os
import signal
from types import FrameType
from typing import Any

from kd_dist.training.distributed import DelayedMaximum

SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


class Preemption:
    """While active, SIGUSR2, SIGTERM and SIGINT ask the run to save and stop.

    `submitit`'s handler for SIGUSR2, or any other, is put back on exit and is kept in `previous_handlers`.
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
        # Schedulers signal every process of a step; a forked helper inherits this handler and must not act on it.
        # SIGUSR2 means "requeue me", which a SIGTERM that follows must not take back.
        if os.getpid() == self._process and self._received != signal.SIGUSR2:
            self._received = number

    def agreed(self) -> int:
        """The signal that some rank had received one call ago, or 0. Collective; the same answer on every rank."""
        return self._agreement.exchange(self._received)
