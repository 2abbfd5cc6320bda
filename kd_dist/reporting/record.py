"""Read a run folder; what is not there (yet) is None or empty."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from kd_dist.config.former_runs import modernized_job, modernized_stage
from kd_dist.config.seeds import split_seed
from kd_dist.config.stage import WIRE
from kd_dist.config.tasks import METRICS, Task
from kd_dist.errors import RunError, UserError
from kd_dist.runs.metrics import is_finite, read_metrics
from kd_dist.training.selection import Best

Row = dict[str, Any]

WRITTEN_BEFORE = {"config.json", "inputs.json", "log"}
"""What a stage's folder holds before the stage begins."""


@dataclass
class StageRecord:
    """A stage.

    Args:
        name: of the stage.
        directory: its folder in the run.
        settings: as the job has them, with references to other stages.
        config: as this run has them, with paths.
        wired_to: stages that feed it.
        metrics: rows of metrics.jsonl.
        damage: why metrics.jsonl cannot be read.
        seconds: how long it took; None: it is not complete.
    """

    name: str
    directory: Path
    settings: Row
    config: Row
    wired_to: list[str]
    metrics: list[Row]
    damage: str | None
    seconds: float | None

    @property
    def kind(self) -> str:
        """The kind of stage, such as `train`."""
        return self.settings.get("kind", "")

    def has_teacher(self) -> bool:
        """Return whether a student learns from a teacher."""
        return bool(self.config.get("teacher") and self.config.get("student"))

    def state(self) -> str:
        """Return `complete`, `not finished`, `waiting`, or `this page` for a report."""
        if self.seconds is not None:
            return "complete"
        if self.kind == "report":
            return "this page"
        begun = self.directory.is_dir() and any(path.name not in WRITTEN_BEFORE for path in self.directory.iterdir())
        return "not finished" if begun else "waiting"

    def shards(self) -> tuple[int, int] | None:
        """Return how many shards are done, of how many; None where the work is not divided."""
        total = (self.settings.get("resources") or {}).get("shards", 1)
        return (len(list(self.directory.glob("shard_*.COMPLETE"))), total) if total > 1 else None

    def read(self, *parts: str) -> Any:
        """Read a JSON file of the stage; None where there is none."""
        return read_json_if_any(self.directory.joinpath(*parts))

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return steps and values of a metric where it is a finite number."""
        points = [(row["global_step"], row[key]) for row in self.metrics if is_finite(row.get(key))]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return np.array(steps, dtype=float), np.array(values, dtype=float)

    @cached_property
    def _logged(self) -> list[str]:
        keys = dict.fromkeys(key for row in self.metrics for key in row)
        found = [key.split("/")[1] for key in keys if re.fullmatch(r"(train|evaluation)/[^/]+", key)]
        return list(dict.fromkeys(found))

    def terms(self) -> list[str]:
        """Return the names of the loss terms: `attention` of `train/attention`."""
        scores = {name for names in METRICS.values() for name in names}
        return [name for name in self._logged if name != "loss" and name not in scores]

    def scores(self) -> list[str]:
        """Return the scores of held-out rows that are shares or correlations, the one that decides first."""
        task = task_of_scores(dict.fromkeys(self._logged))
        return [name for name in METRICS[task] if name in self._logged and name != "mean_squared_error"] if task else []

    def best(self) -> Best | None:
        """Return the evaluation whose weights the selection keeps, as far as the run has come."""
        selection = self.config.get("selection")
        if not selection:
            return None
        metric = selection["metric"]
        if metric == "auto":
            metric = next(iter(self.scores()), "loss")
        best = Best(metric, patience=None)
        for row in self.metrics:
            if is_finite(row.get(f"evaluation/{metric}")):
                best.update(row["global_step"], row)
        return best if best.step else None


@dataclass
class RunRecord:
    """A run: its folder, its job as a dictionary, its stages, the rows of its results, and its environment."""

    directory: Path
    job: Row
    stages: list[StageRecord]
    results: list[Row]
    environment: Row

    def of_kind(self, *kinds: str) -> list[StageRecord]:
        """Return the stages of some kinds."""
        return [stage for stage in self.stages if stage.kind in kinds]

    def training(self) -> list[StageRecord]:
        """Return the stages that train."""
        return [stage for stage in self.stages if stage.kind == "train" or stage.metrics]

    def result_stage(self) -> StageRecord | None:
        """Return the training stage that the result of the job comes from, else the last."""
        named = {stage.name: stage for stage in self.stages}
        waiting = [self.job.get("result")]
        while waiting:
            stage = named.get(waiting.pop(0) or "")
            if stage and stage in self.training():
                return stage
            waiting += stage.wired_to if stage else []
        return next(reversed(self.training()), None)

    def state(self) -> str:
        """Return `complete`, or how many stages are."""
        work = [stage for stage in self.stages if stage.kind != "report"]
        done = sum(stage.seconds is not None for stage in work)
        return "complete" if done == len(work) else f"{done} of {len(work)} stages complete"


def read_run(run_dir: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        UserError: `run_dir` is not a run folder, or one of its JSON files is damaged.
    """
    run_dir = run_dir.absolute()
    job = read_json_if_any(run_dir / "job.json")
    if job is None:
        raise UserError(f"{run_dir} is not a run folder: it has no job.json")
    job = modernized_job(job)
    return RunRecord(
        directory=run_dir,
        job=job,
        stages=[_read_stage(run_dir / name, settings) for name, settings in job["stages"].items()],
        results=read_json_if_any(run_dir / "results.json") or [],
        environment=read_json_if_any(run_dir / "environment.json") or {},
    )


def _read_stage(directory: Path, settings: Row) -> StageRecord:
    complete = read_json_if_any(directory / "COMPLETE")
    metrics, damage = _read_metrics(directory / "metrics.jsonl")
    return StageRecord(
        name=directory.name,
        directory=directory,
        settings=settings,
        config=modernized_stage(read_json_if_any(directory / "config.json") or settings),
        wired_to=list(dict.fromkeys(_wired(settings))),
        metrics=metrics,
        damage=damage,
        seconds=None if complete is None else complete["seconds"],
    )


def _read_metrics(path: Path) -> tuple[list[Row], str | None]:
    if not path.exists():
        return [], None
    try:
        return read_metrics(path), None
    except RunError as error:
        return [], str(error)


def read_json_if_any(path: Path) -> Any:
    """Return the content of a JSON file; None where there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _wired(value: Any) -> Iterator[str]:
    """Yield the names of the stages that settings refer to."""
    if isinstance(value, str) and value.startswith(WIRE):
        yield value.removeprefix(WIRE).split("/")[0]
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _wired(item)


def task_of_scores(row: Row) -> Task | None:
    """Return the task of a row of scores, by their names."""
    tasks: tuple[Task, ...] = ("multi_label", "regression", "single_label")  # single labels have nothing of their own
    return next((task for task in tasks if METRICS[task][0] in row), None)


def with_key_fields(name: str, details: Row) -> Row:
    """Return what evaluation.json says of a model, with the fields that earlier versions had in its name only."""
    if "model" in details:
        return details
    model, seed = split_seed(name.removesuffix(f" at speed {details['speed']:g}") if "speed" in details else name)
    return details | {"model": model} | ({} if seed is None else {"seed": seed})


def parameters_in(directory: Path) -> int | None:
    """Return the number of weights in the safetensors files of a folder, by their headers; None without such files."""
    total = None
    for path in sorted(directory.glob("model*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError):
            return None
        total = (total or 0) + sum(math.prod(shape) for shape in shapes)
    return total


def teacher_directory(stage: StageRecord) -> Path | None:
    """Return where the stage's teacher is: a folder, or the cache of a model of the hub; None if it is in neither."""
    name = (stage.config.get("teacher") or {}).get("path")
    if not name:
        return None
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "model.safetensors")
    except HFValidationError:  # a path that no longer exists
        return None
    return Path(found).parent if isinstance(found, str) else None
