"""Runs of these tests: a job of three stages, and files that its stages leave behind."""

import json
from pathlib import Path
from typing import Any

from kd_dist.config.job import Job
from kd_dist.config.paths import with_absolute_paths
from tests.loading import load_job


def job(settings: list[str], *more: str) -> Job:
    return with_absolute_paths(load_job("tinybert_general", [*settings, *more]))


def written(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
