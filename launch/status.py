"""`--status RUN`: the state of each stage of a run, how far it is, and the log of one that failed."""

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kd_dist.errors import UserError
from launch.columns import columns, terminal_width
from launch.logs import newest_log
from launch.progress import HEADINGS, progress
from launch.states import StageState, is_over, seconds_between_looks, states_of_run


def show_status(run_dir: Path) -> int:
    """Print the status of a run.

    Raises:
        UserError: SLURM does not answer.
    """
    print(status_text(run_dir, states_of_run(run_dir)))
    return 0


def follow_status(run_dir: Path) -> int:
    """Keep the status up to date until all stages are complete or failed; in a pipe, print it when it has changed.

    Returns:
        0 if all stages are complete, else 1.
    """
    console = Console()
    if not console.is_terminal:
        states, _ = _follow(run_dir, lambda text: print(text, flush=True))
    else:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            states, text = _follow(run_dir, lambda text: live.update(Text(text), refresh=True))
        print(text)  # to stay, with its paths in one piece
    return 0 if all(state.is_complete for state in states) else 1


def _follow(run_dir: Path, show: Callable[[str], None]) -> tuple[list[StageState], str]:
    """Show the status whenever it has changed until the run is over; return the last one."""
    shown = ""
    while True:
        states, text = _look(run_dir)
        if text != shown:
            show(text)
            shown = text
        if states and is_over(states):
            return states, text
        time.sleep(seconds_between_looks(run_dir))


def _look(run_dir: Path) -> tuple[list[StageState], str]:
    """Return the states and what to show; while SLURM does not answer, no states and its words."""
    try:
        states = states_of_run(run_dir)
    except UserError as error:
        return [], str(error)
    return states, status_text(run_dir, states)


def status_text(run_dir: Path, states: list[StageState]) -> str:
    """Return a table with one row a stage; that of a failed one names its log."""
    rows = [["stage", "state", "job", *HEADINGS]]
    for state in states:
        known = [] if state.states == ["REMOVED"] else progress(run_dir / state.name, state)
        rows.append([state.name, state.text, state.job, *known])
    (headings, *of_stages) = columns(rows, terminal_width(), wrapped=1)
    lines = [str(run_dir), *headings]
    for state, shown in zip(states, of_stages, strict=True):
        lines += shown
        if state.has_failed and (log := newest_log(run_dir / state.name)) is not None:
            lines.append(f"  see {log}")
    return "\n".join(lines)
