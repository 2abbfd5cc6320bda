"""The finished model as a Hugging Face directory that loads with nothing of ours installed."""

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from transformers.utils import logging

from kd_dist.models import num_parameters
from kd_dist.objectives import Objective
from kd_dist.runs import git_state, rebuilt_export, stage_fingerprint, write_json


def export(objective: Objective, tokenizer: Any, stage_dir: Path, scores: dict[str, Any]) -> Path:
    """Write `stage_dir`/export: model, tokenizer, what belongs to the method, and manifest.json. Rank 0 alone.

    It appears as a whole or not at all, and replaces an older one.
    """
    with rebuilt_export(stage_dir) as directory:
        _save_model(objective, directory)
        tokenizer.save_pretrained(directory)
        objective.save_extras(directory)
        _copy_preprocessing(stage_dir, directory)
        write_json(directory / "manifest.json", _manifest(objective, stage_dir, scores))
    return stage_dir / "export"


def _save_model(objective: Objective, directory: Path) -> None:
    student = objective.student
    ours = student.config
    student.config = copy.deepcopy(ours)
    student.config._attn_implementation = None  # the name of our attention function means nothing elsewhere
    logging.disable_progress_bar()
    student.save_pretrained(directory)
    student.config = ours


def _copy_preprocessing(stage_dir: Path, directory: Path) -> None:
    """How labelled texts became tokens, so that prediction does the same."""
    tokens = Path(json.loads((stage_dir / "config.json").read_text(encoding="utf-8"))["data"]["tokens"])
    if (tokens / "preprocessing.json").exists():
        shutil.copyfile(tokens / "preprocessing.json", directory / "preprocessing.json")


def _manifest(objective: Objective, stage_dir: Path, scores: dict[str, Any]) -> dict[str, Any]:
    configuration = (stage_dir / "config.json").read_bytes()
    tokens = Path(json.loads(configuration)["data"]["tokens"])
    return {
        "job": stage_dir.parent.parent.name,
        "run_id": stage_dir.parent.name,
        "stage": stage_dir.name,
        "configuration_sha256": hashlib.sha256(configuration).hexdigest(),
        "inputs_fingerprint": stage_fingerprint(stage_dir),
        "data_fingerprint": tokens.resolve().name,
        "git": git_state(),
        "parameters": num_parameters(objective.student),
        "scores": scores,
    }
