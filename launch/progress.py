"""Read the progress of a stage from its files."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.sections.training import Train
from kd_dist.runs.completion import unfinished_shards
from kd_dist.runs.layout import read_stage
from launch.states import StageState

HEADINGS = ["step", "loss", "samples/s", "time left"]


def progress(stage_dir: Path, state: StageState) -> list[str]:
    """Return steps or shards, loss, speed and the time left, each empty where it is not known."""
    stage = read_stage(stage_dir)
    if isinstance(stage.resources, ShardResources):
        shards = stage.resources.shards
        return [f"{shards - len(unfinished_shards(stage_dir, shards))}/{shards} shards"]
    training = [row for row in _last_rows(stage_dir / "metrics.jsonl") if "train/loss" in row]
    if not training:
        return []
    last = training[-1]
    step, speed = last["global_step"], last["speed/samples_per_second"]
    total = _total_steps(stage.train, last)
    left = (total - step) * stage.train.global_batch_size / speed
    return [
        f"{step:,}/{total:,}",
        "not finite" if last["train/loss"] is None else f"{last['train/loss']:.4f}",
        f"{speed:,.1f}",
        "" if state.is_complete or state.has_failed else str(timedelta(seconds=round(left))),
    ]


def _total_steps(train: Train, last: dict[str, Any]) -> int:
    """Return the steps of the whole training.

    The length in epochs depends on the number of rows, which follows exactly from how many epochs a step was.
    """
    return train.total_steps(round(last["global_step"] * train.global_batch_size / last["epoch"]))


def _last_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows in the last 64 KiB of metrics.jsonl."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    complete = [line for line in lines if line.startswith("{") and line.endswith("}")]
    return [json.loads(line) for line in complete]
