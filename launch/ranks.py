"""The processes of one stage on this machine, and where their output goes."""

import os
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kd_dist.config.paths import python_path
from launch import tee
from launch.cluster import LAUNCHER, Cluster, rank_environment

SECONDS_TO_FOLLOW = 20
SECONDS_TO_PRINT = 3


class Process(NamedTuple):
    """One process of a stage: the name of its log, its arguments and its environment."""

    name: str
    arguments: list[str]
    environment: dict[str, str]


class Ranks:
    """The processes of one stage: the ranks of one world, or its shards, each a world of its own.

    `at_once` of the `processes` run at a time. The number of a process's place becomes its LOCAL_RANK. Every process
    has its log, log/<name>.txt; that of the first place also prints to the terminal.
    """

    def __init__(self, stage_dir: Path, processes: list[Process], at_once: int, cluster: Cluster, code: Path) -> None:
        self._stage_dir = stage_dir
        self._waiting = list(processes)
        self._places: list[subprocess.Popen[bytes] | None] = [None] * at_once
        self._tees: list[subprocess.Popen[bytes]] = []
        self._shared = {
            **os.environ,
            **rank_environment(cluster),
            "PYTHONPATH": python_path(code),
            "MASTER_ADDR": "127.0.0.1",
            "LOCAL_WORLD_SIZE": str(at_once),
            LAUNCHER: str(os.getpid()),
        }

    def run(self, received: list[int]) -> int:
        """Return the first exit status that is not 0. The others get some time to follow a failed one, then are ended.

        Signals that appear in `received` are handed on; after one, and after a failure, nothing more is started.
        """
        status = self._run(received)
        deadline = time.monotonic() + SECONDS_TO_PRINT
        for process in self._tees:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:  # something that a rank left behind still holds its output
                break
        return status

    def _run(self, received: list[int]) -> int:
        first_failure, failed_at, handed_on = 0, 0.0, 0
        while True:
            while handed_on < len(received):
                self._send(received[handed_on])
                handed_on += 1
            if first_failure or handed_on:
                self._waiting.clear()
            self._fill_places()
            statuses = [process.poll() for process in self._started()]
            if not first_failure and any(statuses):
                first_failure, failed_at = next(status for status in statuses if status), time.monotonic()
            if None not in statuses and not self._waiting:
                return first_failure
            if first_failure and time.monotonic() - failed_at > SECONDS_TO_FOLLOW:
                self._send(signal.SIGKILL)
            time.sleep(0.05)

    def _started(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self._places if process is not None]

    def _send(self, number: int) -> None:
        for process in self._started():
            if process.poll() is None:
                process.send_signal(number)

    def _fill_places(self) -> None:
        for place, process in enumerate(self._places):
            if self._waiting and (process is None or process.poll() == 0):
                self._places[place] = self._start(place, self._waiting.pop(0))

    def _start(self, place: int, process: Process) -> subprocess.Popen[bytes]:
        log = self._stage_dir / "log" / f"{process.name}.txt"
        with self._shown_and_logged(log) if place == 0 else _logged(log) as (stdout, stderr):
            return subprocess.Popen(
                [sys.executable, "-m", "launch.task", str(self._stage_dir), *process.arguments],
                env=self._shared | process.environment | {"LOCAL_RANK": str(place)},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                close_fds=False,  # they hold the lock of the run as long as they live, even if this launcher is killed
                start_new_session=True,  # a Ctrl-C reaches them once, from here
            )

    @contextmanager
    def _shown_and_logged(self, log: Path) -> Iterator[tuple[int, int]]:
        """Yield the two outputs of a process that go where the launcher's go, and to the log as well.

        Where both go to the same place they are one, so that their order is kept.
        """
        opened = [self._tee(1, log)]
        if not os.path.sameopenfile(1, 2):
            opened.append(self._tee(2, log))
        try:
            yield opened[0], opened[-1]
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _tee(self, target: int, log: Path) -> int:
        """Return a descriptor that is a terminal where the target is one, so that a progress bar stays one."""
        if os.isatty(target):
            reading, writing = os.openpty()
            tty.setraw(writing)  # the terminal that shows it adds the carriage returns
            termios.tcsetwinsize(writing, termios.tcgetwinsize(target))
        else:
            reading, writing = os.pipe()
        command = [sys.executable, "-I", "-S", tee.__file__, str(log)]
        self._tees.append(subprocess.Popen(command, stdin=reading, stdout=target, start_new_session=True))
        os.close(reading)
        return writing


@contextmanager
def _logged(log: Path) -> Iterator[tuple[int, int]]:
    with open(log, "ab") as file:
        yield file.fileno(), file.fileno()
