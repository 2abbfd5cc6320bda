"""Errors that are the user's to mend: one clear message, no traceback, and an exit status that says when."""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class UserError(Exception):
    """Something the user can put right; found before any work was done (exit status 2)."""

    exit_status = 2


class RunError(UserError):
    """Something that went wrong while the work was under way (exit status 1); what was saved stays."""

    exit_status = 1


class Preempted(Exception):  # noqa: N818 - not an error: the run is saved and will go on
    """The run was asked to stop, has saved its state at a step boundary, and can be continued.

    `signal_number` is the signal that the first rank to notice received.
    """

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number} after step {step}; the state is saved")
        self.step = step
        self.signal_number = signal_number


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean ...?` for a misspelt name, or the empty string when nothing is near."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"; did you mean `{matches[0]}`?" if matches else ""


# What `report` can explain, beside what it must raise again: torch's OutOfMemoryError is a RuntimeError.
USERS_MISTAKES = (UserError, OSError, RuntimeError, KeyboardInterrupt)


def report(error: BaseException) -> int:
    """Say on stderr what went wrong and what to do, and return the exit status; anything else is raised again."""
    if isinstance(error, UserError):
        message, status = str(error), error.exit_status
    elif isinstance(error, KeyboardInterrupt):
        message, status = "interrupted", 130
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message, status = f"{error.strerror}: {error.filename or 'while writing'}; make room and start again", 1
    elif type(error).__name__ == "OutOfMemoryError":  # torch's, which login nodes must not import
        way_out = "halve train.micro_batch_size, or set engine.activation_checkpointing=true"
        message, status = f"out of GPU memory: {way_out} ({error})", 1
    else:
        raise error
    print(f"error: {message}", file=sys.stderr, flush=True)
    return status


def exit_with_message(main: Callable[[], int | None], is_rank: bool = False) -> NoReturn:
    """Run a command line's `main` and leave with its status; a mistake or a stop is a message, not a traceback.

    A rank leaves at once: the others are leaving too, and a collective clean-up would wait for them.
    """
    try:
        status = main() or 0
    except Preempted as stopped:
        print(stopped, file=sys.stderr)
        status = 128 + stopped.signal_number
    except USERS_MISTAKES as error:
        status = report(error)
    sys.stdout.flush()
    sys.stderr.flush()
    if is_rank:
        os._exit(status)
    sys.exit(status)


class CorpusError(UserError):
    """The text files or the tokenizer cannot be used; the message names the file, the line and the way out."""
