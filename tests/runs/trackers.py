"""Trackers of these tests, and W&B's own reader of what they wrote."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from kd_dist.config.sections.training import Tracking
from kd_dist.runs.metrics import read_metrics
from kd_dist.runs.tracking import Tracker, make_tracker


def stage_dir(root: Path) -> Path:
    directory = root / "some_job" / "run-7" / "distill"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def tracker(root: Path, **settings: Any) -> Tracker:
    settings = {
        "total_steps": 100,
        "log_every_n_steps": 10,
        "settings": Tracking(),
        "config": {"a": {"b": 1}},
    } | settings
    made = make_tracker(0, stage_dir=stage_dir(root), **settings)
    assert isinstance(made, Tracker)
    return made


def wandb_records(root: Path) -> list[dict[str, Any]]:
    """What W&B's own reader finds in the segments of all processes, in the order in which they were written."""
    found = []
    for path in sorted(stage_dir(root).glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        found += map(json.loads, lines)
    return found


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind].get("item", record[kind]) for record in records if record["type"] == kind]


def steps(root: Path) -> list[int]:
    return [row["global_step"] for row in read_metrics(stage_dir(root) / "metrics.jsonl")]
