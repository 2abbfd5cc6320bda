"""Seconds of training steps on a kind of device: measured by a calibration, which later plans use, or else assumed.

A calibration keeps a file for each kind of device in the user's cache:

    step_times/gpu_nvidia_a100_sxm4_80gb.json      step_times/cpu_amd_epyc_2_threads.json
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from kd_dist.files import read_json, write_json
from kd_dist.planning.shapes import Shape
from kd_dist.runs.caches import cache_folder

ASSUMED = {("gpu", False): 8e12, ("gpu", True): 40e12, ("cpu", False): 30e9, ("cpu", True): 30e9}
"""Multiply-accumulates per second of a GPU or a core, in fp32 and else, where nothing was measured."""

LAUNCHING = 0.4e-3
"""Seconds that a GPU takes for a layer at least."""

FORMAT = 1
"""Of the files; those of another one are not read."""

ASSUMED_CHARACTERS = 300_000.0  # that a core tokenizes in a second

ASSUMED_START = 10.0  # seconds until a process has imported what it needs

ASSUMED_ONCE = 20.0  # seconds that a stage takes for all that it does once

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Work:
    """What a micro-batch of a stage computes.

    Attributes:
        objective: The method; `teacher_outputs` where the teacher runs alone.
        precision: What it computes in.
        rows: Of a micro-batch.
        student: The model that is trained.
        teacher: The one that runs along, if any.
        is_trained: Whether the student's layers have a backward pass; otherwise their outputs are used.
    """

    objective: str
    precision: str
    rows: int
    student: Shape
    teacher: Shape | None = None
    is_trained: bool = True

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Read what `asdict` has made."""
        shapes = {name: Shape(**content[name]) for name in ("student", "teacher") if content[name]}
        return cls(**{**content, **shapes})

    def operations(self, length: int, forward_only: bool = False) -> float:
        """Return the multiply-accumulates of a micro-batch whose rows have so many tokens."""
        of_teacher = self.teacher.operations(length) if self.teacher else 0
        return self.rows * (self._times(forward_only) * self.student.operations(length) + of_teacher)

    def passes(self, forward_only: bool = False) -> int:
        """Return how many layers are run, each backward pass as two."""
        return self._times(forward_only) * self.student.layers + (self.teacher.layers if self.teacher else 0)

    def _times(self, forward_only: bool) -> int:
        return 3 if self.is_trained and not forward_only else 1  # a backward pass is two forward passes

    def likeness(self, other: "Work", length: int) -> tuple[bool, bool, float]:
        """Return a key by which the most similar work sorts first."""
        distance = abs(math.log(self.operations(length) / other.operations(length)))
        return self != other, self.objective != other.objective or self.precision != other.precision, distance


@dataclass(frozen=True)
class Measured:
    """The seconds, and on a GPU the peak memory, that were measured for some work."""

    work: Work
    micro_batch: Points
    forward: Points
    optimizer: float
    once: float
    memory_gb: Points


class StepTimes:
    """Seconds of steps on a kind of device.

    Args:
        kind: `gpu` or `cpu`.
        content: What a calibration has written; None: nothing was measured.
    """

    def __init__(self, kind: str, content: Mapping[str, Any] | None = None) -> None:
        self.kind = kind
        self.device: Mapping[str, Any] | None = content["device"] if content else None
        self.measured_at: str | None = content["measured"] if content else None
        self.start_seconds = float(content["start_seconds"]) if content else ASSUMED_START
        found = content["characters_per_second"] if content else 0.0  # 0: the job had no texts to tokenize
        self.characters_per_second = float(found or ASSUMED_CHARACTERS)
        records = content["records"] if content else []
        self._records = [Measured(**{**record, "work": Work.of(record["work"])}) for record in records]

    def is_exact(self, work: Work) -> bool:
        """Return whether this very work was measured."""
        return any(record.work == work for record in self._records)

    def micro_batch(self, work: Work, length: int, threads: int) -> float:
        """Return the seconds of a micro-batch, on one GPU or with so many threads."""
        found = self._most_like(work, length, "micro_batch")
        if found is None:
            return self._assumed(work, length, threads)
        scale = work.operations(length) / found.work.operations(length)
        seconds = scale * at_length(found.micro_batch, length) * self._slowdown(threads)
        return seconds if found.work == work else max(seconds, self._least(work))

    def forward(self, work: Work, length: int, threads: int) -> float:
        """Return the seconds of a forward pass of a micro-batch."""
        found = self._most_like(work, length, "forward")
        if found is None:
            return self._assumed(work, length, threads, forward_only=True)
        scale = work.operations(length, True) / found.work.operations(length, True)
        return scale * at_length(found.forward, length) * self._slowdown(threads)

    def optimizer(self, work: Work, length: int, threads: int) -> float:
        """Return the seconds of the update of all weights after the micro-batches of a step."""
        found = self._most_like(work, length, "micro_batch")
        if found is None:
            return 0.1 * self.micro_batch(work, length, threads)
        return found.optimizer * work.student.parameters() / found.work.student.parameters() * self._slowdown(threads)

    def memory_gb(self, work: Work, length: int) -> float | None:
        """Return the peak memory of a rank where it was measured for this very work, as on GPUs."""
        found = next((record for record in self._records if record.work == work and record.memory_gb), None)
        return None if found is None else at_length(found.memory_gb, length)

    def once(self, work: Work) -> float:
        """Return the seconds of all that a stage does once: start, load, export."""
        found = self._most_like(work, 128, "micro_batch")
        return ASSUMED_ONCE if found is None else self.start_seconds + found.once

    def _most_like(self, work: Work, length: int, what: str) -> Measured | None:
        records = [record for record in self._records if getattr(record, what)]
        return min(records, key=lambda record: work.likeness(record.work, length), default=None)

    def _slowdown(self, threads: int) -> float:
        return self.device["threads"] / threads if self.device and self.kind == "cpu" else 1.0

    def _assumed(self, work: Work, length: int, threads: int, forward_only: bool = False) -> float:
        """Return seconds by the operations."""
        seconds = work.operations(length, forward_only) / ASSUMED[self.kind, work.precision != "fp32"]
        return max(seconds / (threads if self.kind == "cpu" else 1), self._least(work, forward_only))

    def _least(self, work: Work, forward_only: bool = False) -> float:
        """Return the seconds in which a GPU begins the kernels of all layers, one by one."""
        return LAUNCHING * work.passes(forward_only) if self.kind == "gpu" else 0.0


def at_length(points: Points, length: int) -> float:
    """Return the seconds at a length between, or a little beside, those that were measured."""
    if len(points) == 1:
        return points[0][1] * length / points[0][0]
    pairs = list(zip(points, points[1:], strict=False))
    (first, low), (second, high) = next((pair for pair in pairs if length <= pair[1][0]), pairs[-1])
    found = low + (high - low) * (length - first) / (second - first)
    return max(found, points[0][1] / 2)


def folder() -> Path:
    """Return where calibrations are kept."""
    return cache_folder() / "step_times"


def keep(content: Mapping[str, Any]) -> Path:
    """Keep a calibration; of the same work the newer one counts, and what else was measured on the device stays."""
    device = content["device"]
    threads = f" {device['threads']} threads" if device["kind"] == "cpu" else ""
    name = re.sub(r"[^a-z0-9]+", "_", f"{device['kind']} {device['name']}{threads}".lower()).strip("_")
    path = folder() / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    works = [record["work"] for record in content["records"]]
    before = [record for found in _read(path.name) for record in found["records"] if record["work"] not in works]
    write_json(path, {**content, "format": FORMAT, "records": before + content["records"]})
    return path


def record(work: Work, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of the seconds that were found for some work."""
    names = {"micro_batch": [], "forward": [], "optimizer": 0.0, "once": 0.0, "memory_gb": []}
    return {"work": asdict(work), **{name: found.get(name, nothing) for name, nothing in names.items()}}


def step_times(kind: str, name: str | None, threads: int = 1) -> StepTimes:
    """Return the calibration of a device, or what is assumed where there is none.

    Args:
        kind: `gpu` or `cpu`.
        name: A part of its name, in any case; None: any of that kind, the newest first.
        threads: Of a rank on a CPU: a calibration with as many is preferred.
    """
    found = [
        content for content in _read(f"{kind}_*.json") if (name or "").lower() in content["device"]["name"].lower()
    ]
    found.sort(key=lambda content: content["measured"], reverse=True)
    found.sort(key=lambda content: kind == "cpu" and content["device"]["threads"] != threads)
    return StepTimes(kind, found[0] if found else None)


def _read(pattern: str) -> list[dict[str, Any]]:
    contents = [read_json(file) for file in sorted(folder().glob(pattern))]
    return [content for content in contents if content["format"] == FORMAT]
