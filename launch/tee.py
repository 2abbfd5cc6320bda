"""Copy what a process prints to the terminal and, line by line, to a log: `tee.py LOG < pipe or pseudo-terminal`.

This is a program of its own rather than a thread of the launcher: ranks save their state after a launcher was killed,
and what they print meanwhile must not fail. It imports the standard library only, so that it starts in milliseconds.
"""

import os
import re
import select
import sys
import termios
import time

SECONDS_BETWEEN_BARS = 10
CONTROL = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")


class Log:
    """The lines of a terminal without its control sequences; of a progress bar, how it looks every few seconds."""

    def __init__(self, descriptor: int) -> None:
        self.end: OSError | None = None  # why the log ends early: a full disk, as a rule
        self._descriptor = descriptor
        self._line = b""  # what follows the last newline
        self._last_bar, self._last_time = b"", time.monotonic()

    def write(self, chunk: bytes) -> None:
        *lines, line = (self._line + chunk).split(b"\n")
        for whole in lines:
            self._put(as_shown(whole))
        # A bar writes over its line for hours: only the newest version counts, and the one before it while it is cut.
        self._line = b"\r".join(line.split(b"\r")[-2:])

    def tick(self) -> None:
        """Note the line that is being written over, if it is due and has changed."""
        bar = as_shown(self._line) if b"\r" in self._line else b""
        if bar and bar != self._last_bar and time.monotonic() - self._last_time >= SECONDS_BETWEEN_BARS:
            self._put(bar)
            self._last_bar, self._last_time = bar, time.monotonic()

    def close(self) -> None:
        if rest := as_shown(self._line):
            self._put(rest)

    def _put(self, line: bytes) -> None:
        if self.end is not None:
            return
        try:
            os.write(self._descriptor, line + b"\n")
        except OSError as error:  # what is still said must reach the terminal, and the process must not lose its output
            self.end = error


def as_shown(line: bytes) -> bytes:
    """Return what a terminal shows of a line in the end: the text behind the last carriage return that has any."""
    versions = [CONTROL.sub(b"", version).rstrip() for version in line.split(b"\r")]
    return next((version for version in reversed(versions) if version), b"")


def copy(source: int, target: int, log: Log) -> None:
    """Copy everything up to the end; what the target no longer takes (a closed terminal) still goes to the log."""
    on_terminal = os.isatty(source) and os.isatty(target)
    while True:
        is_ready, _, _ = select.select([source], [], [], 1.0)
        if on_terminal:
            _match_size(source, target)
        if is_ready:
            try:
                chunk = os.read(source, 65536)
            except OSError:  # a pseudo-terminal that nobody holds any more
                return
            if not chunk:
                return
            if target >= 0 and not _written(target, chunk):
                target, on_terminal = -1, False
            log.write(chunk)
        log.tick()


def _written(target: int, chunk: bytes) -> bool:
    try:
        while chunk:
            chunk = chunk[os.write(target, chunk) :]
    except OSError:
        return False
    return True


def _match_size(source: int, target: int) -> None:
    """Set the pseudo-terminal to the size of the terminal, which may have changed."""
    size = termios.tcgetwinsize(target)
    if termios.tcgetwinsize(source) != size:
        termios.tcsetwinsize(source, size)


def main() -> None:
    descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    log = Log(descriptor)
    copy(0, 1, log)
    log.close()
    if log.end is not None:
        print(f"note: {sys.argv[1]} ends early: {log.end.strerror}", file=sys.stderr)


if __name__ == "__main__":
    main()
