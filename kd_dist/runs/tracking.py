"""Track a training run: metrics.jsonl always, W&B beside it, and a progress display.

Rank 0 has a `Tracker`, the other ranks a `NullTracker`, so that the trainer never asks which rank it is.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from kd_dist.config.sections.training import Tracking
from kd_dist.errors import Preempted
from kd_dist.files import write_text
from kd_dist.runs.metrics import finite_or_none, read_metrics
from kd_dist.runs.progress import Bar, Display, Lines, Status
from kd_dist.runs.wandb_run import WandbRun, copies_in, is_disabled, results_row


class NullTracker:
    """The tracker of every rank but the first: it knows when a step is due and otherwise does nothing.

    All ranks must agree on `is_due`, because what is logged is summed over the ranks.
    """

    def __init__(self, *, total_steps: int, log_every_n_steps: int) -> None:
        self._total_steps = total_steps
        self._log_every_n_steps = log_every_n_steps

    def start(self, step: int) -> None:
        """Start tracking after `step` steps (0, or the step of the checkpoint that the run resumes from)."""

    def begin(self, step: int, damaged: Sequence[str]) -> None:
        """Start tracking, and say which checkpoints were passed over and at which step the run goes on."""
        self.start(step)
        for line in damaged:
            self.message(line)
        if step:
            self.message(f"resumed at step {step}")

    def is_due(self, step: int) -> bool:
        """Return whether the step is logged: every `log_every_n_steps`, and the first and last step of the run."""
        return step % self._log_every_n_steps == 0 or step in (1, self._total_steps)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step."""

    def progress(self, step: int, loss: float | None, samples_per_second: float | None) -> None:
        """Report that a step is done; may be called at every step. None leaves a value as it was."""

    def message(self, text: str) -> None:
        """Show a message about something out of the ordinary."""

    def close(self, exit_code: int = 0) -> None:
        """End tracking; W&B shows the run as failed unless `exit_code` is 0."""


class Tracker(NullTracker):
    """The tracker of rank 0. Job, run and stage have the names of the folders `<job>/<run>/<stage>` of `stage_dir`."""

    def __init__(
        self,
        *,
        stage_dir: Path,
        total_steps: int,
        settings: Tracking,
        log_every_n_steps: int,
        config: dict[str, Any],
    ) -> None:
        super().__init__(total_steps=total_steps, log_every_n_steps=log_every_n_steps)
        stage_dir = stage_dir.absolute()
        self._path = stage_dir / "metrics.jsonl"
        self._file: TextIO | None = None
        self._wandb = WandbRun(stage_dir, settings, config)
        self._status = Status(stage_dir.name, total_steps)
        self._display: Display = Bar(self._status) if sys.stderr.isatty() else Lines(self._status)

    def start(self, step: int) -> None:
        """Start tracking after `step` steps: remove rows of later steps from metrics.jsonl, and start W&B.

        Raises:
            RunError: metrics.jsonl is damaged before its last line.
        """
        rows = read_metrics(self._path) if self._path.exists() else []
        self._wandb.remember(rows)  # before later rows are removed: W&B has them and must not get them again
        kept = [row for row in rows if row["global_step"] <= step]
        write_text(self._path, "".join(_line(row) for row in kept))
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the run lasts
        self._status.step = step
        self._display.start()
        if problem := self._wandb.start():
            self.message(problem)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write a line of metrics.jsonl and a row of W&B, and update the display.

        A number that is not finite becomes `null` in metrics.jsonl, which is strict JSON. The line has left the
        process when this returns; W&B follows within a second.
        """
        assert self._file is not None, "log before start"
        row = {"global_step": step, "time": round(time.time(), 3), "starts": self._wandb.starts, **metrics}
        self._file.write(_line(row))
        self._file.flush()
        if problem := self._wandb.log(step, {"starts": self._wandb.starts, **metrics}):
            self.message(problem)
        self._status.update(step, metrics.get("train/loss"), metrics.get("speed/samples_per_second"))
        self._display.logged()

    def progress(self, step: int, loss: float | None, samples_per_second: float | None) -> None:
        self._status.update(step, loss, samples_per_second)
        self._display.stepped()

    def message(self, text: str) -> None:
        self._display.message(text)

    def close(self, exit_code: int = 0) -> None:
        if problem := self._wandb.finish(exit_code):
            self.message(problem)
        self._display.close()
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def closed_at_end(tracker: NullTracker) -> Iterator[None]:
    """End tracking after the context; one that is preempted will resume, and is no failure for W&B."""
    status = 1
    try:
        yield
        status = 0
    except Preempted:
        status = 0
        raise
    finally:
        tracker.close(status)


def make_tracker(
    rank: int,
    *,
    stage_dir: Path,
    total_steps: int,
    settings: Tracking,
    log_every_n_steps: int,
    config: dict[str, Any],
) -> NullTracker:
    """Return a `Tracker` on rank 0 and a `NullTracker` on all other ranks."""
    if rank != 0:
        return NullTracker(total_steps=total_steps, log_every_n_steps=log_every_n_steps)
    return Tracker(
        stage_dir=stage_dir,
        total_steps=total_steps,
        settings=settings,
        log_every_n_steps=log_every_n_steps,
        config=config,
    )


def log_results(
    stage_dir: Path,
    settings: Tracking,
    config: dict[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    pictures: Sequence[Path],
) -> None:
    """Show the results of a stage of one process in W&B: the numbers of each model, a table and pictures.

    A stage that runs again replaces its earlier results. A failure of W&B is printed and stops nothing.

    Args:
        stage_dir: The folder of the stage.
        settings: W&B project and tags.
        config: The settings of the stage, shown with the run.
        rows: The results of each model, by its name.
        pictures: Files to show, by their stem.
    """
    if is_disabled():
        return
    stage_dir = stage_dir.absolute()
    run = WandbRun(stage_dir, settings, config, resume=None, without_it="results are in results.json only")
    run.remember([])
    with copies_in(stage_dir / "wandb"):
        problem = run.start() or run.log(0, results_row(rows, pictures))
        messages = problem, run.finish(exit_code=0)
    for message in messages:
        if message:
            print(f"{stage_dir.name}  {message}", file=sys.stderr, flush=True)


def _line(row: Mapping[str, Any]) -> str:
    strict = {key: finite_or_none(value) for key, value in row.items()}
    return json.dumps(strict, ensure_ascii=False, allow_nan=False) + "\n"
