"""Claim a run for one process of this machine, so that two that are started at the same time do not share it."""

import errno
import fcntl
import os
import re
import socket
import sys
from pathlib import Path

from kd_dist.errors import UserError


def claim(run_dir: Path) -> None:
    """Hold the lock of a run until this process ends, however it does: the kernel then lets go of it.

    Ranks that this process starts hold it as well. If they outlive a killed launcher, to save, this waits for them.

    Raises:
        UserError: Another process holds it, which the message names, or the folder cannot be written.
    """
    path = run_dir / "launch.lock"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # never closed
    except OSError as error:
        raise UserError(
            f"nothing can be written in {run_dir} ({error.strerror}): choose another --runs-dir, or make room there"
        ) from error
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = path.read_text(encoding="utf-8").strip() or "a process that has just begun"
        if not _is_gone(holder):
            raise UserError(
                f"run {run_dir.name} is being started or run already, by {holder}: wait for it, end it, or choose "
                "another --run-id"
            ) from error
        print(f"waiting for the ranks of {holder}, which was killed, to save and end", file=sys.stderr, flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        print(f"note: no file can be locked in {run_dir}: take care that nobody starts this run twice", file=sys.stderr)
        return
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _is_gone(holder: str) -> bool:
    """Return whether a holder of the lock, as it describes itself, was a process of this machine that has ended."""
    found = re.fullmatch(r"process (\d+) on (.*)", holder)
    return found is not None and found[2] == socket.gethostname() and not Path("/proc", found[1]).exists()
