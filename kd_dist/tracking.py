"""What a training run says about itself: metrics.jsonl always, W&B beside it, and one line of progress for whoever
watches. The only file that imports wandb.

Rank 0 has a `Tracker`, the other ranks a `NullTracker`, so that the trainer never asks which rank it is.
"""

import json
import math
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from kd_dist.errors import RunError
from kd_dist.reporting.page import is_finite
from kd_dist.runs import write_json, write_text
from kd_dist.sections import Tracking

# W&B flushes its log every 15 s by default, and a killed run would lose all that came after, up to its whole record.
WANDB_FLUSH_SECONDS = 1.0
# A preempted run has a minute or two to leave; what is not uploaded by then stays on disk, for `wandb sync`.
WANDB_FINISH_SECONDS = 15.0


class NullTracker:
    """The tracker of every rank but the first: says when a step is due and otherwise does nothing.

    All ranks must agree on `is_due`, because what is logged is summed over the ranks.
    """

    def __init__(self, *, total_steps: int, log_every_n_steps: int) -> None:
        self._total_steps = total_steps
        self._log_every_n_steps = log_every_n_steps

    def start(self, step: int) -> None:
        """Begin to track after `step` steps (0, or the step of the checkpoint that the run goes on from)."""

    def is_due(self, step: int) -> bool:
        """Whether the step is logged: every `log_every_n_steps`, and the first and the last step of the run."""
        return step % self._log_every_n_steps == 0 or step in (1, self._total_steps)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step."""

    def progress(self, step: int, loss: float | None, samples_per_second: float | None) -> None:
        """Say that a step is done; may be called at every step. None: as it was before."""

    def message(self, text: str) -> None:
        """Tell whoever watches about something out of the ordinary."""

    def close(self, exit_code: int = 0) -> None:
        """End tracking; W&B shows the run as failed unless `exit_code` is 0."""


class Tracker(NullTracker):
    """The tracker of rank 0. The names of job, run and stage are those of the folders above and of `stage_dir`."""

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
        self._wandb = _WandbRun(stage_dir, settings, config)
        self._status = _Status(stage_dir.name, total_steps)
        self._display: _Display = _Bar(self._status) if sys.stderr.isatty() else _Lines(self._status)

    def start(self, step: int) -> None:
        """Begin to track after `step` steps: what was logged of later steps is taken back, and W&B starts.

        Raises:
            RunError: metrics.jsonl is damaged in the middle.
        """
        rows = read_metrics(self._path) if self._path.exists() else []
        self._wandb.remember(rows)  # before the rows are cut: W&B has them, and must not get them again
        kept = [row for row in rows if row["global_step"] <= step]
        write_text(self._path, "".join(_line(row) for row in kept))
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the run lasts
        self._status.step = step
        self._display.start()
        if problem := self._wandb.start():
            self.message(problem)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one line of metrics.jsonl and one row of W&B, and bring the progress line up to date.

        A number that is not finite is `null` in metrics.jsonl, which is strict JSON. The line has left the process
        when this returns; W&B follows within a second.
        """
        assert self._file is not None, "log before start"
        self._file.write(_line({"global_step": step, "time": round(time.time(), 3), **metrics}))
        self._file.flush()
        if problem := self._wandb.log(step, metrics):
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


def make_tracker(
    rank: int,
    *,
    stage_dir: Path,
    total_steps: int,
    settings: Tracking,
    log_every_n_steps: int,
    config: dict[str, Any],
) -> NullTracker:
    """A `Tracker` on rank 0, a `NullTracker` on the others."""
    if rank != 0:
        return NullTracker(total_steps=total_steps, log_every_n_steps=log_every_n_steps)
    return Tracker(
        stage_dir=stage_dir,
        total_steps=total_steps,
        settings=settings,
        log_every_n_steps=log_every_n_steps,
        config=config,
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl file; a last line that was not written to its end is left out.

    Raises:
        RunError: a line before the last is no JSON object.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    lines.pop()  # empty after a whole last line, else the half-written one
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or "global_step" not in row:
            raise RunError(f"{path}:{number}: expected a JSON object with global_step, found {line[:80]!r}")
        rows.append(row)
    return rows


def log_results(
    stage_dir: Path,
    settings: Tracking,
    config: dict[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    pictures: Sequence[Path],
) -> None:
    """Show in W&B what a stage of one process has found: the numbers of each model, a table of all, and pictures.

    A stage that runs again shows its results in place of those before. W&B's trouble is printed and stops nothing.
    """
    if os.environ.get("WANDB_MODE") == "disabled":  # importing W&B costs most of a second
        return
    stage_dir = stage_dir.absolute()
    run = _WandbRun(stage_dir, settings, config, resume=None, without_it="results are in results.json only")
    run.remember([])
    with _copies_in(stage_dir / "wandb"):
        problem = run.start() or run.log(0, _shown(rows, pictures))
    for told in (problem, run.finish(exit_code=0)):
        if told:
            print(f"{stage_dir.name}  {told}", file=sys.stderr, flush=True)


@contextmanager
def _copies_in(directory: Path) -> Iterator[None]:
    """W&B would keep tables in the home folder until they are uploaded; `wandb sync` is to need the run's folder only.

    A WANDB_DATA_DIR that is set already stands.
    """
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(directory)
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def _shown(rows: Mapping[str, Mapping[str, Any]], pictures: Sequence[Path]) -> dict[str, Any]:
    import wandb

    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    cells = [[name, *(_strict(row.get(column)) for column in columns)] for name, row in rows.items()]
    numbers = {f"{name}/{key}": value for name, row in rows.items() for key, value in row.items() if is_finite(value)}
    table = {"evaluation/models": wandb.Table(["model", *columns], cells)}
    return numbers | table | {f"evaluation/{path.stem}": wandb.Image(str(path)) for path in pictures}


def _strict(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(row: Mapping[str, Any]) -> str:
    strict = {key: _strict(value) for key, value in row.items()}
    return json.dumps(strict, ensure_ascii=False, allow_nan=False) + "\n"


class _WandbRun:
    """One W&B run per stage, whichever process writes it. Its trouble is reported as text and never stops training.

    Offline, W&B knows nothing of resuming: each process writes a segment of its own, and they meet when they are
    uploaded. So the run's id lives in the stage folder, and so does what W&B has got already. W&B's own step is the
    number of the row, since W&B drops a second row of the same step (training, then evaluation); charts go by
    `global_step`.

    `resume` is what W&B does with what earlier processes sent: go on after it, or (None) put this in its place.
    `without_it` says what is left when W&B fails.
    """

    def __init__(
        self,
        stage_dir: Path,
        settings: Tracking,
        config: dict[str, Any],
        *,
        resume: Literal["allow"] | None = "allow",
        without_it: str = "metrics go to metrics.jsonl only",
    ) -> None:
        self._stage_dir = stage_dir
        self._settings = settings
        self._config = config
        self._resume = resume
        self._without_it = without_it
        self._run: Any = None
        self._id = ""
        self._last_step_sent = -1
        self._rows_sent = 0

    def remember(self, rows: list[dict[str, Any]]) -> None:
        """Note which steps W&B has, given the rows that earlier processes wrote; those with W&B sent each at once."""
        path = self._stage_dir / "wandb.json"
        if path.exists():
            state = json.loads(path.read_text(encoding="utf-8"))
            self._id, self._rows_sent = state["id"], state["rows_sent"]
            self._last_step_sent = state["last_step_sent"]
            sent = [row["global_step"] for row in rows if row["global_step"] > self._last_step_sent]
            if state["sending"] and sent:
                self._last_step_sent = max(sent)
                self._rows_sent += len(sent)
        else:
            self._id = secrets.token_hex(8)
        self._write_state(sending=False)

    def _write_state(self, sending: bool) -> None:
        """While `sending`, the rows of metrics.jsonl say what W&B has got since; no file is written at every step."""
        state = {"id": self._id, "last_step_sent": self._last_step_sent, "rows_sent": self._rows_sent}
        write_json(self._stage_dir / "wandb.json", state | {"sending": sending})

    def start(self) -> str | None:
        """Start W&B, and say what went wrong if it does not start."""
        import wandb  # only here: it costs most of a second

        run_dir = self._stage_dir.parent
        try:
            self._run = wandb.init(
                project=self._settings.project,
                group=run_dir.name,
                job_type=self._stage_dir.name,
                name=f"{run_dir.name}/{self._stage_dir.name}",
                tags=[*self._settings.tags, run_dir.parent.name],
                config=self._config,
                dir=self._stage_dir,
                id=self._id,
                resume=self._resume,
                mode=_wandb_mode(),
                settings=wandb.Settings(
                    x_transaction_log_flush_interval=WANDB_FLUSH_SECONDS,
                    finish_timeout=WANDB_FINISH_SECONDS,
                    console="off",
                    silent=True,
                    disable_git=True,  # environment.json has the git state; a remote's address may hold a token
                ),
            )
            self._run.define_metric("*", step_metric="global_step")
        except (wandb.errors.Error, ValidationError, OSError) as error:  # OSError: its own process died
            self._run = None
            return f"W&B did not start, {self._without_it}: {error}"
        self._write_state(sending=True)
        return None

    def log(self, step: int, metrics: Mapping[str, Any]) -> str | None:
        # `_last_step_sent` is what earlier processes sent; this one may have two rows for a step.
        if self._run is None or step <= self._last_step_sent:
            return None
        import wandb

        try:
            # Without commit, W&B holds the row back until the next one comes, and a kill would take it.
            self._run.log({"global_step": step, **metrics}, step=self._rows_sent, commit=True)
        except (OSError, wandb.errors.Error) as error:
            self._run = None
            return f"W&B stopped, {self._without_it}: {error}"
        self._rows_sent += 1
        return None

    def finish(self, exit_code: int) -> str | None:
        run, self._run = self._run, None
        if run is None:
            return None
        from wandb.sdk.mailbox import HandleAbandonedError

        try:
            run.finish(exit_code=exit_code)
        except (OSError, HandleAbandonedError) as error:  # its own process died before, or while it finished
            return f"W&B did not finish in order: {error!r}"
        return None


def _wandb_mode() -> Literal["online", "offline"] | None:
    """Online where there are credentials, else offline; None where WANDB_MODE or W&B's settings file decides."""
    import wandb
    from wandb.sdk.lib import wbauth

    settings = wandb.setup().settings
    if os.environ.get("WANDB_MODE") or settings.mode != "online":
        return None
    found = wbauth.authenticate_session(host=settings.base_url, source="kd_dist", prompt=False, update_session=False)
    return "offline" if found is None else "online"


@dataclass
class _Status:
    """Where the stage stands."""

    stage: str
    total_steps: int
    step: int = 0
    loss: float | None = None
    samples_per_second: float | None = None
    _first: tuple[int, float] | None = None

    def update(self, step: int, loss: float | None, samples_per_second: float | None) -> None:
        # Counted from the end of this process's first step: neither resumed steps nor the warm-up tell the speed.
        if self._first is None:
            self._first = (step, time.monotonic())
        self.step = step
        self.loss = self.loss if loss is None else loss
        self.samples_per_second = self.samples_per_second if samples_per_second is None else samples_per_second

    def seconds_left(self) -> float | None:
        """None until two steps of this process are done."""
        if self._first is None or self.step <= self._first[0]:
            return None
        seconds_per_step = (time.monotonic() - self._first[1]) / (self.step - self._first[0])
        return seconds_per_step * (self.total_steps - self.step)

    def parts(self) -> dict[str, str]:
        """What is known, each as it is shown."""
        left = self.seconds_left()
        return {
            "loss": "" if self.loss is None else f"loss {_short(self.loss)}",
            "speed": "" if self.samples_per_second is None else f"{_rate(self.samples_per_second)} samples/s",
            "left": "" if left is None else f"{_clock(left)} left",
        }


def _short(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:.3e}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class _Display(Protocol):
    def start(self) -> None: ...
    def stepped(self) -> None: ...
    def logged(self) -> None: ...
    def message(self, text: str) -> None: ...
    def close(self) -> None: ...


class _Lines:
    """For log files: a line per logged step."""

    def __init__(self, status: _Status) -> None:
        self._status = status
        self._shown = -1

    def start(self) -> None:
        pass

    def stepped(self) -> None:
        pass

    def logged(self) -> None:
        status = self._status
        if status.step == self._shown:  # the evaluation of a step that has its line
            return
        self._shown = status.step
        parts = [status.stage, f"step {status.step}/{status.total_steps}", *status.parts().values()]
        print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)

    def message(self, text: str) -> None:
        print(f"{self._status.stage}  {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class _Bar:
    """For terminals: one line that lives, and messages above it."""

    def __init__(self, status: _Status) -> None:
        self._status = status
        columns = ["{task.completed:,}/{task.total:,}", *(f"{{task.fields[parts][{name}]}}" for name in status.parts())]
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            *(TextColumn(column, markup=False) for column in columns),
            console=Console(stderr=True),
            refresh_per_second=4,
            expand=True,
            # Rich would send what is printed to stdout to stderr, also where stdout is a file.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._progress.add_task(status.stage, total=status.total_steps, parts=status.parts())

    def start(self) -> None:
        self._progress.update(self._task, completed=self._status.step)
        self._progress.start()

    def stepped(self) -> None:
        self._progress.update(self._task, completed=self._status.step, parts=self._status.parts())

    def logged(self) -> None:
        self.stepped()

    def message(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()
