"""`--logs RUN [STAGE]`: the newest log of the first rank of a stage."""

import contextlib
import io
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kd_dist.errors import UserError, nearest
from kd_dist.runs.completion import companions
from launch.states import StageState, seconds_between_looks, states_of_run

# Of submitit, <job>_<rank>_log.out, for arrays <job>_<element>_<rank>_log.out; of a launcher on this machine.
FIRST_RANK = re.compile(r"\d+(_\d+)?_0_log\.out|rank_0\.txt|shard_\d+\.txt")
SECONDS_BETWEEN_READS = 0.5


def newest_log(stage_dir: Path) -> Path | None:
    """Return the log of the first rank that was written last; None before there is any.

    Of stages that run together one has the log of all.
    """
    folders = [stage_dir, *companions(stage_dir)]
    logs = [path for each in folders for path in (each / "log").glob("*") if FIRST_RANK.fullmatch(path.name)]
    return max(logs, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


def show_logs(run_dir: Path, stage: str | None = None, follow: bool = False) -> int:
    """Print the log of a stage: of the one that runs if none is named, or else the newest log of the run.

    Args:
        run_dir: The folder of the run.
        stage: A stage of its job.
        follow: Go on printing until the stage is complete or has failed.

    Returns:
        0, or 1 if the stage that was followed has failed.

    Raises:
        UserError: The job has no such stage, or there is no log yet and none is waited for.
    """
    states = states_of_run(run_dir)
    names = [state.name for state in states]
    if stage is not None and stage not in names:
        raise UserError(f"--logs {run_dir}: no stage `{stage}`{nearest(stage, names)}; there are: {', '.join(names)}")
    name = stage or _stage_of_interest(run_dir, states)
    state = states[names.index(name)]
    if follow:
        return _follow(run_dir, name)
    log = newest_log(run_dir / name)
    if log is None:
        raise UserError(f"stage {name} has no log yet, it is {state.text}; --follow waits for it")
    _announce(log)
    with open(log, "rb") as file:
        _print_rest(file)
    return 0


def _stage_of_interest(run_dir: Path, states: list[StageState]) -> str:
    """Return the stage that runs, or the one whose log was written last, or the first that is not complete."""
    for state in states:
        if "RUNNING" in state.states:
            return state.name
    logs = {state.name: log for state in states if (log := newest_log(run_dir / state.name)) is not None}
    if logs:
        return max(logs, key=lambda name: logs[name].stat().st_mtime_ns)
    return next((state.name for state in states if not state.is_complete), states[0].name)


def _follow(run_dir: Path, stage: str) -> int:
    log: Path | None = None
    has_failed = False
    with contextlib.ExitStack() as opened:
        file: BinaryIO = io.BytesIO()
        for state in _states_while_it_runs(run_dir, stage):
            has_failed = state.has_failed
            _print_rest(file)
            newest = newest_log(run_dir / stage)
            if newest is not None and newest != log:  # the first, or the stage was submitted again
                log, file = newest, opened.enter_context(open(newest, "rb"))
                _announce(log)
                _print_rest(file)
    return 1 if has_failed else 0


def _states_while_it_runs(run_dir: Path, stage: str) -> Iterator[StageState]:
    """Yield the state of a stage before each read, the last time when it has ended: its last words count, too."""
    looked_at, state = float("-inf"), StageState(stage, [])
    while True:
        if time.monotonic() - looked_at >= seconds_between_looks(run_dir):
            looked_at = time.monotonic()
            with contextlib.suppress(UserError):  # SLURM does not answer now; the log is there all the same
                state = next(state for state in states_of_run(run_dir) if state.name == stage)
        yield state
        if state.is_complete or state.has_failed:
            return
        time.sleep(SECONDS_BETWEEN_READS)


def _announce(log: Path) -> None:
    print(f"==> {log}", file=sys.stderr, flush=True)


def _print_rest(file: BinaryIO) -> None:
    while chunk := file.read(1 << 16):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
