"""Errors that are the user's to mend: one clear message, no traceback, and an exit status that says when."""

import difflib
import sys
from collections.abc import Callable, Iterable


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


def exit_with_message(main: Callable[[], int | None]) -> None:
    """Run a command line's `main`, turning a `UserError` into its message on stderr and its exit status."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_status)
