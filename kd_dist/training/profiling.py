"""The operators of some steps of a training run, by their time: a table, and a trace for chrome://tracing."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from kd_dist.files import atomic_path, write_text

OPERATORS = 40  # lines of the table


class Profile:
    """Time the operators of some steps of this rank. Steps are slower meanwhile; nothing else changes.

    Args:
        steps: Which steps; there may be none.
        folder: Where `operators.txt` and `trace.json` go.
    """

    def __init__(self, steps: range, folder: Path) -> None:
        self._steps, self._folder = steps, folder
        self._running: profile | None = None

    def begin(self, step: int) -> None:
        """Say which step begins: the first of the steps starts the clock, the one after the last stops it."""
        if self._running is None and step in self._steps:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
            self._running = profile(activities=activities, acc_events=True)
            self._running.start()
        elif self._running is not None and step not in self._steps:
            self.end()

    def end(self) -> None:
        """Write what was recorded, if anything was."""
        if self._running is None:
            return
        self._running.stop()
        self._folder.mkdir(exist_ok=True)
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = self._running.key_averages().table(sort_by=by, row_limit=OPERATORS, max_name_column_width=70)
        write_text(self._folder / "operators.txt", table)
        with atomic_path(self._folder / "trace.json") as place:
            self._running.export_chrome_trace(str(place))
        self._running = None
