"""Show the progress of a stage: a bar in a terminal, lines in a log file."""

import sys
import time
from dataclasses import dataclass
from typing import ClassVar, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


@dataclass
class Status:
    """The progress of a stage."""

    stage: str
    total_steps: int
    step: int = 0
    loss: float | None = None
    samples_per_second: float | None = None
    _first: tuple[int, float] | None = None

    def update(self, step: int, loss: float | None, samples_per_second: float | None) -> None:
        """Record a step; None leaves a value as it was."""
        # Time counts from the end of this process's first step: resumed steps and the warm-up say nothing about speed.
        if self._first is None:
            self._first = (step, time.monotonic())
        self.step = step
        self.loss = self.loss if loss is None else loss
        self.samples_per_second = self.samples_per_second if samples_per_second is None else samples_per_second

    def seconds_left(self) -> float | None:
        """Return the estimated time to the last step; None until this process has done two steps."""
        if self._first is None or self.step <= self._first[0]:
            return None
        seconds_per_step = (time.monotonic() - self._first[1]) / (self.step - self._first[0])
        return seconds_per_step * (self.total_steps - self.step)

    def parts(self) -> dict[str, str]:
        """Return the values that are known, formatted for display."""
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


class Display(Protocol):
    """Something that shows a `Status`, and is called when the status has changed."""

    def start(self) -> None: ...
    def stepped(self) -> None: ...
    def logged(self) -> None: ...
    def message(self, text: str) -> None: ...
    def close(self) -> None: ...


class Lines:
    """A display for log files: one line per logged step."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._shown = -1

    def start(self) -> None:
        pass

    def stepped(self) -> None:
        pass

    def logged(self) -> None:
        status = self._status
        if status.step == self._shown:  # an evaluation of a step that already has a line
            return
        self._shown = status.step
        parts = [status.stage, f"step {status.step}/{status.total_steps}", *status.parts().values()]
        print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)

    def message(self, text: str) -> None:
        print(f"{self._status.stage}  {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class Bar:
    """A display for terminals: a progress bar with messages above it; those of one process are below each other."""

    _shown: ClassVar[list["Bar"]] = []
    """Those that are on the screen, which holds one display."""

    def __init__(self, status: Status) -> None:
        self._status = status
        columns = ["{task.completed:,}/{task.total:,}", *(f"{{task.fields[parts][{name}]}}" for name in status.parts())]
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            *(TextColumn(column, markup=False) for column in columns),
            console=Console(stderr=True),
            refresh_per_second=4,
            expand=True,
            # Otherwise rich sends stdout to stderr even where stdout is a file.
            redirect_stdout=sys.stdout.isatty(),
        )

    def start(self) -> None:
        if Bar._shown:
            self._progress = Bar._shown[0]._progress
        Bar._shown.append(self)
        status = self._status
        self._task = self._progress.add_task(
            status.stage, total=status.total_steps, completed=status.step, parts=status.parts()
        )
        self._progress.start()

    def stepped(self) -> None:
        self._progress.update(self._task, completed=self._status.step, parts=self._status.parts())

    def logged(self) -> None:
        self.stepped()

    def message(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        Bar._shown = [bar for bar in Bar._shown if bar is not self]
        if not Bar._shown:
            self._progress.stop()
