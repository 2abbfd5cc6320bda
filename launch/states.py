"""The state of every stage of a run, by SLURM's word or by what the launcher of a local run noted."""

from pathlib import Path
from typing import NamedTuple

from kd_dist.files import read_json
from kd_dist.runs.completion import companions, is_complete
from launch.launcher import Launcher, end_of, launcher_of
from launch.scheduler import LIVE, job_states, submitted_jobs, summed_up

# SLURM's words for jobs that ended badly, and ours for a local stage that a signal ended.
ENDED = {"FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "STOPPED"}
SHOWN_FIRST = ("RUNNING", "FAILED")
SECONDS_BETWEEN_LOOKS = 1
SECONDS_BETWEEN_QUESTIONS = 10  # to SLURM, which many people ask


class StageState(NamedTuple):
    """A stage, the states of its jobs (one unless it is an array), and its job id in SLURM, if it has one.

    Beside SLURM's words there are WAITING, STARTED (whether it still runs is not known), STOPPED (by a signal) and
    REMOVED (its folder is gone; the same command makes it again).
    """

    name: str
    states: list[str]
    job: str = ""

    @property
    def text(self) -> str:
        return summed_up(self.states)

    @property
    def is_complete(self) -> bool:
        return self.states == ["COMPLETED"]

    @property
    def is_live(self) -> bool:
        return bool(LIVE.intersection(self.states))

    @property
    def has_failed(self) -> bool:
        return not self.is_live and bool(ENDED.intersection(self.states))


def states_of_runs(run_dirs: list[Path]) -> list[list[StageState]]:
    """Return the states of the stages of each run; SLURM is asked once for all of them.

    Raises:
        UserError: SLURM does not answer.
    """
    jobs = [submitted_jobs(run_dir) for run_dir in run_dirs]
    left = [
        job
        for run_dir, of_run in zip(run_dirs, jobs, strict=True)
        for stage, job in of_run.items()
        if not _is_complete(run_dir / stage)
    ]
    known = job_states(left)
    return [_states_of_run(run_dir, of_run, known) for run_dir, of_run in zip(run_dirs, jobs, strict=True)]


def states_of_run(run_dir: Path) -> list[StageState]:
    """Return the state of each stage, in the order of the job."""
    return states_of_runs([run_dir])[0]


def seconds_between_looks(run_dir: Path) -> int:
    """Return how often whoever follows a run may look at it."""
    return SECONDS_BETWEEN_QUESTIONS if submitted_jobs(run_dir) else SECONDS_BETWEEN_LOOKS


def is_over(states: list[StageState]) -> bool:
    """Return whether nothing of a run will change by itself: all is complete, or something failed and nothing runs."""
    if all(state.is_complete for state in states):
        return True
    return any(state.has_failed for state in states) and not any(state.is_live for state in states)


def state_of_run(states: list[StageState]) -> str:
    """Return one word for a run: COMPLETED, or the most telling state of its stages."""
    if all(state.is_complete for state in states):
        return "COMPLETED"
    found = [word for state in states for word in state.states if word != "COMPLETED"]
    ended = [word for word in found if word in ENDED]
    live = [word for word in found if word in LIVE]
    return next((word for word in SHOWN_FIRST if word in found), [*ended, *live, *sorted(found)][0])


def _is_complete(stage_dir: Path) -> bool:
    return (stage_dir / "inputs.json").exists() and is_complete(stage_dir)


def _states_of_run(run_dir: Path, jobs: dict[str, str], known: dict[str, list[str]]) -> list[StageState]:
    launcher = launcher_of(run_dir)
    found = []
    for name in read_json(run_dir / "job.json")["stages"]:
        job = jobs.get(name, "")
        if not (run_dir / name / "inputs.json").exists():
            found.append(StageState(name, ["REMOVED"]))
        elif is_complete(run_dir / name):
            found.append(StageState(name, ["COMPLETED"], job))
        elif launcher is not None or not known.get(job):
            found.append(StageState(name, [_local_state(run_dir / name, launcher)]))
        else:
            found.append(StageState(name, known[job], job))
    return found


def _local_state(stage_dir: Path, launcher: Launcher | None) -> str:
    together = {stage_dir.name, *(other.name for other in companions(stage_dir))}
    if launcher is not None and launcher.stage in together:
        return "RUNNING" if launcher.is_alive() else "STOPPED"
    if (end := end_of(stage_dir)) is not None:
        return "STOPPED" if end["signal"] else "FAILED"
    begun = (stage_dir / "metrics.jsonl").exists() or any(stage_dir.glob("shard_*.COMPLETE"))
    return "STARTED" if begun else "WAITING"
