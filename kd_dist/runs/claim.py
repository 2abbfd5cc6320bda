"""Claim a run for one process of this machine, so that two that are started at the same time do not share it."""

import errno
import fcntl
import os
import socket
import sys
from pathlib import Path

from kd_dist.errors import UserError


def claim(run_dir: Path) -> None:
    """Hold the lock of a run until this process ends, however it does: the kernel then lets go of it.

    Raises:
        UserError: Another process holds it, which the message names, or the folder cannot be written.
    """
    path = run_dir / "launch.lock"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # never closed, and no child inherits it
    except OSError as error:
        raise UserError(
            f"nothing can be written in {run_dir} ({error.strerror}): choose another --runs-dir, or make room there"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = path.read_text(encoding="utf-8").strip() or "a process that has just begun"
        raise UserError(
            f"run {run_dir.name} is being started or run already, by {holder}: wait for it, end it, or choose another "
            "--run-id"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        print(f"note: no file can be locked in {run_dir}: take care that nobody starts this run twice", file=sys.stderr)
        return
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
