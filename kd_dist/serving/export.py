"""The finished model as a Hugging Face directory.

It loads with nothing of ours installed, but for a model with branches (FastBERT): that one needs the classes of
`kd_dist.early_exit`, as the README.md in its directory says.
"""

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from transformers.utils import logging

from kd_dist.data.preprocessing import FILE_NAME
from kd_dist.files import read_json, replaced_folder, write_json
from kd_dist.models.students import num_parameters
from kd_dist.objectives.base import Objective
from kd_dist.runs.environment import git_state
from kd_dist.runs.fingerprints import stage_fingerprint


def export(objective: Objective, tokenizer: Any, stage_dir: Path, scores: dict[str, Any]) -> Path:
    """Write `stage_dir`/export: model, tokenizer, what belongs to the method, and manifest.json. Rank 0 alone.

    A model with branches comes with a README.md on how to load it. The directory appears as a whole or not at all, and
    replaces an older one.
    """
    with replaced_folder(stage_dir / "export") as (_, directory):
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
    tokens = Path(read_json(stage_dir / "config.json")["data"]["tokens"])
    if (tokens / FILE_NAME).exists():
        shutil.copyfile(tokens / FILE_NAME, directory / FILE_NAME)


def _manifest(objective: Objective, stage_dir: Path, scores: dict[str, Any]) -> dict[str, Any]:
    configuration = (stage_dir / "config.json").read_bytes()
    tokens = Path(json.loads(configuration)["data"]["tokens"])
    return {
        "job": stage_dir.parent.parent.name,
        "run_id": stage_dir.parent.name,
        "stage": stage_dir.name,
        "configuration_sha256": hashlib.sha256(configuration).hexdigest(),
        "inputs_fingerprint": stage_fingerprint(stage_dir),
        "data_fingerprint": _data_fingerprint(tokens),
        "git": git_state(),
        "parameters": num_parameters(objective.student),
        "scores": scores,
    }


def _data_fingerprint(tokens: Path) -> str | None:
    """Of what the rows were made of: a shared corpus is named by it, other rows lie in the stage that made them.

    None for rows that no run made.
    """
    if tokens.is_symlink():
        return tokens.resolve().name
    return stage_fingerprint(tokens.parent) if (tokens.parent / "inputs.json").exists() else None
