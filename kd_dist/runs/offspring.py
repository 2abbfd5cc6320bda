"""End processes with the one that started them, also if that one is killed: nobody else would end them."""

import contextlib
import ctypes
import functools
import os
import signal
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(parent: int, number: int) -> None:
    """Let this process get a signal when its parent ends; now, if that has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


@functools.cache
def end_forks_with_this() -> None:
    """Kill what this process forks from now on, such as workers that tokenize, when it ends in whatever way.

    They would wait for its orders for ever, and hold the lock of the run, which they have inherited.
    """
    forking = 0  # the process that forks, if it does so in its main thread

    def note() -> None:
        # Linux sends the signal when the thread ends that has forked, and only the main one lasts to the end.
        nonlocal forking
        forking = os.getpid() if threading.current_thread() is threading.main_thread() else 0

    def follow() -> None:
        if forking:
            end_with(forking, signal.SIGKILL)

    os.register_at_fork(before=note, after_in_child=follow)


def end_children(program: str) -> None:
    """Kill what this process has started of a program, because it does not answer any more."""
    for task in Path("/proc/self/task").iterdir():
        for child in task.joinpath("children").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                if Path("/proc", child, "comm").read_text().strip() == program:
                    os.kill(int(child), signal.SIGKILL)
