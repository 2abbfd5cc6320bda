"""Record in the run folder which process launched a local run, and how each stage ended.

runs/<job>/<run_id>/launcher.json         while it runs
                    <stage>/ended.json    once the stage has failed or was stopped, until it starts again
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kd_dist.files import read_json, write_json


class Launcher(NamedTuple):
    """A process that runs the stages of a run on its machine, and the stage that it is at."""

    pid: int
    host: str
    started: str
    stage: str

    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """Return whether it still runs. On another machine only its note says so, which a killed one leaves behind."""
        return not self.is_here() or _start_time(self.pid) == self.started


@contextmanager
def noted(run_dir: Path) -> Iterator[None]:
    """Remove the note of this process at the end."""
    try:
        yield
    finally:
        (run_dir / "launcher.json").unlink(missing_ok=True)


def note_stage(stage_dir: Path) -> None:
    """Note that this process is at a stage, which has not ended."""
    forget_end(stage_dir)
    launcher = Launcher(os.getpid(), socket.gethostname(), _start_time(os.getpid()), stage_dir.name)
    write_json(stage_dir.parent / "launcher.json", launcher._asdict())


def launcher_of(run_dir: Path) -> Launcher | None:
    """Return the launcher that noted itself in the run folder; it may have been killed since."""
    try:
        return Launcher(**read_json(run_dir / "launcher.json"))
    except FileNotFoundError:
        return None


def note_end(stage_dir: Path, status: int, signal_name: str = "") -> None:
    """Note that a stage failed with an exit status, or was stopped by a signal that the launcher received."""
    write_json(stage_dir / "ended.json", {"status": status, "signal": signal_name})


def end_of(stage_dir: Path) -> dict[str, Any] | None:
    """Return `status` and `signal` of a stage that has ended without being complete."""
    path = stage_dir / "ended.json"
    return read_json(path) if path.exists() else None


def forget_end(stage_dir: Path) -> None:
    """Forget how a stage ended, since it starts again."""
    (stage_dir / "ended.json").unlink(missing_ok=True)


def _start_time(pid: int) -> str:
    """Return when a process started, in the kernel's ticks since boot: a process id alone may be another's by now.

    Empty for a process that is gone or a zombie.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # the command before it may hold spaces; state comes first
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
