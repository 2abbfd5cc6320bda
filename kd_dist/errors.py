"""Errors that a user can fix: one clear message, no traceback, and an exit status that says when they were found."""

import contextlib
import difflib
import errno
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NoReturn


class UserError(Exception):
    """A mistake that the user can fix, found before any work was done (exit status 2)."""

    exit_status = 2


class RunError(UserError):
    """A failure after work had begun (exit status 1); everything saved until then is kept."""

    exit_status = 1


class Preempted(Exception):  # noqa: N818 - not an error: the run is saved and can resume
    """The run was asked to stop and has saved its state at a step boundary; the same command resumes it.

    Attributes:
        step: The step that was saved.
        signal_number: The signal that asked for it.
    """

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number} after step {step}; the state is saved")
        self.step = step
        self.signal_number = signal_number


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean ...?` for a misspelt name, or an empty string if no valid name is similar."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"; did you mean `{matches[0]}`?" if matches else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def excerpt(text: str, around: int = 0) -> str:
    """Return the characters of a text around a place, quoted, with dots where there are more."""
    start = max(0, around - EXCERPT // 2)
    return f"{'...' * (start > 0)}{text[start : start + EXCERPT]!r}{'...' * (start + EXCERPT < len(text))}"


# What `report` is called with: libraries say in exceptions of any kind that a disk is full. It raises what it cannot
# explain again.
USERS_MISTAKES = (Exception, KeyboardInterrupt)


FULL = (errno.ENOSPC, errno.EDQUOT)

EXCERPT = 40  # characters of a text in a message

UNUSABLE = (errno.ENAMETOOLONG, errno.ELOOP)  # no file can be there: a text where a path belongs, or links in a circle

CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def explained(error: BaseException) -> tuple[str, int] | None:
    """Return a message with the way out and the exit status; None for an error that is nobody's mistake: a crash."""
    if isinstance(error, UserError):
        return str(error), error.exit_status
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if full := _full_disk(error):
        return f"{full}; free some space and start again", 1
    if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename:
        return f"{error.strerror}: {error.filename!s:.60}; give the path of a file or folder", 2
    if isinstance(error, OSError) and error.errno in CLOSED and error.filename:
        return f"{error.strerror}: {error.filename2 or error.filename}; make it writable for you and start again", 1
    if type(error).__name__ == "OutOfMemoryError":  # torch's, by its name: login nodes must not import torch
        way_out = "halve train.micro_batch_size, or set engine.activation_checkpointing=true"
        return f"out of GPU memory: {way_out} ({error})", 1
    return None


def _full_disk(error: BaseException) -> str | None:
    """Return which disk is full, if that is why an error was raised; None if not.

    Tokenizers raise a plain Exception, safetensors one of its own, and a worker of datasets closes its file and raises
    over that: only the text, or what the error was raised from, says what happened.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in FULL:
            written = found.filename2 or found.filename  # of a copy the second
            return f"{os.strerror(found.errno)}: {written or 'while writing'}"
        for reason in map(os.strerror, FULL):
            if reason in str(found):
                return f"{reason}: while writing"
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return None


def report(error: BaseException) -> int:
    """Print an error and the way out on stderr, and return the exit status; raise other errors again."""
    known = explained(error)
    if known is None:
        raise error
    message, status = known
    print(f"error: {message}", file=sys.stderr, flush=True)
    return status


def exit_with_message(main: Callable[[], int | None], is_rank: bool = False) -> NoReturn:
    """Run the `main` of a command and exit with its status; mistakes and stops are messages, not tracebacks.

    Args:
        main: Returns an exit status, or None for 0.
        is_rank: Whether this is one of several ranks. It then exits without clean-up, which would wait for the
            other ranks while they exit too.
    """
    try:
        status = main() or 0
        sys.stdout.flush()
    except Preempted as stopped:
        print(stopped, file=sys.stderr)
        status = 128 + stopped.signal_number
    except BrokenPipeError:
        if not _is_unread(sys.stdout.fileno()):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        status = 128 + signal.SIGPIPE
    except USERS_MISTAKES as error:
        status = report(error)
    sys.stdout.flush()
    sys.stderr.flush()
    if is_rank:
        os._exit(status)
    sys.exit(status)


def _is_unread(descriptor: int) -> bool:
    """Return whether it is a pipe whose reader has left, as `head` does."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


class CorpusError(UserError):
    """Text files or a tokenizer cannot be used; the message names the file, the line and the way out."""


@contextlib.contextmanager
def options_in_messages(options: Mapping[str, str]) -> Iterator[None]:
    """Name the options of a command in messages about data, which name the settings of a stage.

    Args:
        options: The option (`--bad-rows`) of each key of a setting (`bad_rows` of `data.bad_rows`).

    Raises:
        CorpusError: The block raises one; `data.bad_rows=skip` in its message becomes `--bad-rows skip`.
    """
    try:
        yield
    except CorpusError as error:
        message = re.sub(
            rf"\bdata\.({'|'.join(options)})(=?)",
            lambda found: options[found[1]] + " " * len(found[2]),
            str(error),
        )
        raise CorpusError(message) from error
