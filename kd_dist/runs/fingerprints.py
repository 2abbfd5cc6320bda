"""Fingerprint everything that the result of a stage depends on."""

import hashlib
import os
from pathlib import Path
from typing import Any

from kd_dist.config.job import Job
from kd_dist.config.paths import matching_paths, model_config_file
from kd_dist.config.sections.models import Student
from kd_dist.files import read_json, short_hash


def fingerprints(job: Job) -> dict[str, str]:
    """Return, for each stage, a hash of its settings, its input files and the fingerprints of the stages before it."""
    found: dict[str, str] = {}
    for name, inputs in job.edges().items():
        stage = job.stages[name]
        parts = [stage.identity(), input_files(stage), [found[other] for other in inputs]]
        found[name] = short_hash(parts)
    return found


def input_files(stage: Any) -> list[list[Any]]:
    """Return (path, bytes, modification time in ns) of every local file that the settings name.

    The architecture of a student counts by its content: (`student.config`, SHA-256).
    """
    paths = [Path(found) for _, pattern in stage.named_paths() for found in _files_at(pattern)]
    rows: list[list[Any]] = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    if isinstance(getattr(stage, "student", None), Student):
        content = model_config_file(stage.student.config).read_bytes()
        rows.append([stage.student.config, hashlib.sha256(content).hexdigest()])
    return rows


def _files_at(pattern: str) -> list[str]:
    """Return the files that a path, folder or glob stands for, folders with all that is below them."""
    found = matching_paths(pattern)
    nested = [
        sorted(str(file) for file in Path(path).rglob("*") if file.is_file()) for path in found if os.path.isdir(path)
    ]
    return [path for path in found if os.path.isfile(path)] + [file for files in nested for file in files]


def stage_fingerprint(stage_dir: Path) -> str:
    """Return the fingerprint that the stage had when the run was last opened."""
    return read_json(stage_dir / "inputs.json")["fingerprint"]
