"""Errors that are the user's to mend: one clear message, no traceback, and an exit status that says when."""

import difflib
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


def exit_with_message(main: Callable[[], int | None], is_rank: bool = False) -> NoReturn:
    """Run a command line's `main` and leave with its status; a `UserError` or a stop is a message, not a traceback.

    A rank leaves at once: the others are leaving too, and a collective clean-up would wait for them.
    """
    try:
        status = main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = error.exit_status
    except Preempted as stopped:
        print(stopped, file=sys.stderr)
        status = 128 + stopped.signal_number
    sys.stdout.flush()
    sys.stderr.flush()
    if is_rank:
        os._exit(status)
    sys.exit(status)
