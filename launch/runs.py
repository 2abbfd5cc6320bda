"""Runs by their folders: find one that the command line names, and list all of them."""

from datetime import datetime
from pathlib import Path

from kd_dist.errors import UserError
from launch.columns import columns, terminal_width
from launch.states import state_of_run, states_of_runs

HEADINGS = ["job", "run id", "state", "stages", "last change"]


def find_run(option: str, run: str, runs_dir: Path) -> Path:
    """Return the run folder that is named by its path, or by `job/run_id` in the folder of the runs.

    Raises:
        UserError: There is no run at either place.
    """
    for path in (Path(run), runs_dir / run):
        if (path / "job.json").is_file():
            return path
    raise UserError(
        f"{option} {run}: not a run folder (no job.json in it); runs are {runs_dir}/<job>/<run_id>, and `--status` "
        "without a run lists them"
    )


def list_runs(runs_dir: Path) -> int:
    """Print job, run id, state, complete stages and last change of every run, newest first.

    Raises:
        UserError: SLURM does not answer.
    """
    changes = {path.parent: _last_change(path.parent) for path in runs_dir.glob("*/*/job.json")}
    if not changes:
        print(f"no runs in {runs_dir} (--runs-dir names another folder)")
        return 0
    run_dirs = sorted(changes, key=lambda run_dir: changes[run_dir], reverse=True)
    rows = [HEADINGS]
    for run_dir, states in zip(run_dirs, states_of_runs(run_dirs), strict=True):
        complete = sum(state.is_complete for state in states)
        changed = datetime.fromtimestamp(changes[run_dir]).isoformat(" ", "minutes")
        rows.append([run_dir.parent.name, run_dir.name, state_of_run(states), f"{complete}/{len(states)}", changed])
    for lines in columns(rows, terminal_width(), wrapped=HEADINGS.index("run id")):
        print("\n".join(lines))
    return 0


def _last_change(run_dir: Path) -> float:
    """Return when a run last wrote something, in seconds since 1970."""
    patterns = ("*.json", "*/metrics.jsonl", "*/*COMPLETE", "*/log/*")
    return max(path.stat().st_mtime for pattern in patterns for path in run_dir.glob(pattern))
