"""Say where a run was when it was killed: the stage, what it was doing, and the step."""

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kd_dist.config.stages import TrainStage
from kd_dist.files import read_json
from kd_dist.runs.completion import is_complete
from kd_dist.runs.layout import read_stage
from kd_dist.runs.metrics import read_metrics

OPENING = ("code", "log", "config.json", "inputs.json", "job.json", "environment.json", "launch.lock")
FILES = {
    "checkpoints": "save",
    "metrics.jsonl": "step",
    "export": "export",
    "results.json": "results",
    "COMPLETE": "completion",
}


class Place(NamedTuple):
    """Where a run is.

    Attributes:
        stage: The first stage that is not complete.
        phase: What it was doing, as closely as files tell.
        step: The step that training was at, if it had begun.
        saved: The step of the newest checkpoint.
    """

    stage: str
    phase: str
    step: int | None = None
    saved: int = 0


def place(run_dir: Path, change: str = "") -> Place:
    """Return where a run is, by what it left on disk and by the change that it was about to make."""
    name = _stage(run_dir)
    stage_dir = run_dir / name
    runs_dir = run_dir.parent.parent  # the cache of corpora is in it, beside the jobs
    phase = _phase_of_change(Path(change).relative_to(runs_dir)) if change else ""
    if not name or phase == "opening":
        return Place(name, "opening")
    stage = read_stage(stage_dir)
    if not isinstance(stage, TrainStage):
        return Place(name, phase or stage.kind)
    saved = [int(path.name.removeprefix("step_")) for path in stage_dir.glob("checkpoints/step_*")]
    step, _ = step_of(stage_dir)
    return Place(name, phase or _phase_of_training(stage_dir), step or None, max(saved, default=0))


def step_of(stage_dir: Path) -> tuple[int, float]:
    """Return the step that the last try of a stage was at, 0 for none, and how many seconds ago it got there."""
    path = stage_dir / "tries" / "step"
    with suppress(FileNotFoundError):
        return int(path.read_bytes() or 0), time.time() - path.stat().st_mtime
    return 0, 0.0


def _stage(run_dir: Path) -> str:
    """Return the first stage that is not complete; empty while the run folder is being written."""
    try:
        names = list(read_json(run_dir / "job.json")["stages"])
        return next((name for name in names if not is_complete(run_dir / name)), names[-1])
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _phase_of_change(change: Path) -> str:
    """Return what a run was doing by the file that it was about to change, if that is telling."""
    if len(change.parts) < 5 and any(name in change.name for name in OPENING):
        return "opening"
    return next((phase for name, phase in FILES.items() if name in change.as_posix()), "")


def _phase_of_training(stage_dir: Path) -> str:
    if any(stage_dir.glob("checkpoints/.step_*")):
        return "save"
    if any(stage_dir.glob(".export*")) or (stage_dir / "export").exists():
        return "export"
    if not step_of(stage_dir)[0]:
        return "set-up"
    return "evaluation" if _is_evaluating(stage_dir) else "step"


def _is_evaluating(stage_dir: Path) -> bool:
    """Return whether the last row of the metrics is that of a step after which an evaluation is due."""
    path = stage_dir / "metrics.jsonl"
    rows = read_metrics(path) if path.exists() else []
    every = read_stage(stage_dir).cadence.evaluate_every_n_steps
    return bool(rows) and "train/loss" in rows[-1] and rows[-1]["global_step"] % every == 0
