"""End a rank that hangs and say where, rather than let the whole job idle until its time limit.

Only steps are watched: between them rank 0 may evaluate, save or export for hours while the others wait, and the
trainer pauses the watchdog of every rank meanwhile. Signals and collectives with a timeout are not enough: a rank that
is stuck on its machine reaches neither, and the others wait for it in whatever collective comes next.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kd_dist.config.paths import REPOSITORY
from kd_dist.runs.tries import Tries
from kd_dist.training import distributed

HUNG = 75  # the exit status: EX_TEMPFAIL of sysexits.h
FIRST_STEP = 2  # it compiles kernels and fills caches, so it has this many times the patience
SECONDS_TO_ANSWER = 60.0  # at most; ranks begin a step at different moments, and the last must still be heard


class Watchdog:
    """A context in which a thread ends this process once a step has taken too long.

    Args:
        minutes: How long a step may take, from one call of `at` to the next.
        tries: Where the step, and the end by a hang, are noted for whoever starts the stage again.
    """

    def __init__(self, minutes: float, tries: Tries) -> None:
        self._minutes, self._tries = minutes, tries
        self._tick = min(1.0, minutes * 60 / 20)
        self._step, self._first_step = 0, 0
        self._waited = 0.0
        self._is_paused = False
        self._over = threading.Event()
        self._step_file: BinaryIO | None = None

    def __enter__(self) -> "Watchdog":
        if distributed.rank() == 0:
            self._step_file = self._tries.open_step_file()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        if self._step_file is not None:
            self._step_file.close()

    def at(self, step: int) -> None:
        """Begin a step; rank 0 notes it where it survives the death of the process."""
        self._first_step = self._first_step or step
        self._step, self._waited = step, 0.0
        if self._step_file is not None:
            os.pwrite(self._step_file.fileno(), b"%d" % step, 0)  # numbers only grow, so that nothing is left behind

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Do not watch the block; the patience begins anew after it."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused, self._waited = False, 0.0

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._over.wait(self._tick):
            now = time.monotonic()
            # A process that was stopped, as by a scheduler that suspends jobs, finds much time gone, but did not hang.
            self._waited += min(now - last, 2 * self._tick)
            last = now
            patience = self._minutes * 60 * (FIRST_STEP if self._step <= self._first_step else 1)
            if not self._is_paused and self._waited > patience:
                self._end(patience / 60)

    def _end(self, minutes: float) -> None:
        own = distributed.rank()
        where = place_of_main_thread()
        seconds = min(SECONDS_TO_ANSWER, self._minutes * 60)
        places = distributed.exchange_places(f"step {self._step}, {where}", seconds)
        lines = [f"rank {own} hangs: step {self._step} has taken {minutes:g} minutes; it is {where}"]
        lines += [f"  rank {rank}: {place}" for rank, place in enumerate(places) if rank != own]
        lines += [f"raise engine.hang_minutes (now {self._minutes:g}) if a step may take longer"]
        print("\n".join(["error: " + lines[0], *lines[1:]]), file=sys.stderr, flush=True)
        faulthandler.dump_traceback(all_threads=True)
        self._tries.note("hang")
        os._exit(HUNG)


def place_of_main_thread() -> str:
    """Describe the innermost function of the main thread, and the one of ours that called it."""
    main = threading.main_thread().ident
    assert main is not None
    stack = traceback.extract_stack(sys._current_frames()[main])
    inner = stack[-1]
    ours = [frame for frame in stack if Path(frame.filename).is_relative_to(REPOSITORY / "kd_dist")]
    text = f"in {inner.name} ({_shown(inner)})"
    return text if not ours or ours[-1] is inner else f"{text}, called by {ours[-1].name} ({_shown(ours[-1])})"


def _shown(frame: traceback.FrameSummary) -> str:
    path = Path(frame.filename)
    shown = path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path.name
    return f"{shown}, line {frame.lineno}"
