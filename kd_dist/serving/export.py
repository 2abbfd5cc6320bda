"""Export a trained model as a Hugging Face directory.

The directory loads without kd_dist: that of a model of our own kind has its code in it. Only a model with branches
(FastBERT) needs the classes of `kd_dist.early_exit`, as the README.md in its directory says.
"""

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import logging

from kd_dist.config.families import padding_side
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.files import replaced_folder, write_json
from kd_dist.models.students import num_parameters
from kd_dist.objectives.base import Objective
from kd_dist.runs.environment import git_state
from kd_dist.runs.fingerprints import stage_fingerprint


def export(objective: Objective, tokenizer: Any, rows: PreparedRows, stage_dir: Path, scores: dict[str, Any]) -> Path:
    """Write `stage_dir`/export: model, tokenizer, the files of the method, and manifest.json. Only rank 0 calls this.

    The directory replaces an older one. It is complete or absent, even after a failure.

    Args:
        rows: those the model was trained on, which say how texts became tokens.
        scores: those of the exported weights, for the manifest.

    Returns:
        The directory.
    """
    return export_model(objective.student, tokenizer, rows, stage_dir, scores, objective.save_extras)


def export_model(
    model: PreTrainedModel,
    tokenizer: Any,
    rows: PreparedRows,
    stage_dir: Path,
    scores: dict[str, Any],
    save_extras: Callable[[Path], None] = lambda directory: None,
) -> Path:
    """Write a model as `export` does that of an objective; `save_extras` adds files to the directory."""
    with replaced_folder(stage_dir / "export") as (_, directory):
        _save_model(model, directory)
        tokenizer.padding_side = padding_side(model.config.model_type)
        tokenizer.init_kwargs["padding_side"] = tokenizer.padding_side  # or it would not be saved
        tokenizer.save_pretrained(directory)
        save_extras(directory)
        rows.copy_preprocessing(directory)
        write_json(directory / "manifest.json", _manifest(rows, model, stage_dir, scores))
    return stage_dir / "export"


def _save_model(model: PreTrainedModel, directory: Path) -> None:
    ours = model.config
    model.config = copy.deepcopy(ours)
    model.config._attn_implementation = None  # the name of our attention function is unknown elsewhere
    logging.disable_progress_bar()
    model.save_pretrained(directory)
    model.config = ours


def _manifest(rows: PreparedRows, model: PreTrainedModel, stage_dir: Path, scores: dict[str, Any]) -> dict[str, Any]:
    configuration = (stage_dir / "config.json").read_bytes()
    return {
        "job": stage_dir.parent.parent.name,
        "run_id": stage_dir.parent.name,
        "stage": stage_dir.name,
        "configuration_sha256": hashlib.sha256(configuration).hexdigest(),
        "inputs_fingerprint": stage_fingerprint(stage_dir),
        "data_fingerprint": _data_fingerprint(rows.folder),
        "git": git_state(),
        "parameters": num_parameters(model),
        "scores": scores,
    }


def _data_fingerprint(tokens: Path) -> str | None:
    """Return the fingerprint of the files that the rows were made from, or None when no run made them.

    The folder of a shared corpus has it as its name. Other rows are in the folder of the stage that made them.
    """
    if tokens.is_symlink():
        return tokens.resolve().name
    return stage_fingerprint(tokens.parent) if (tokens.parent / "inputs.json").exists() else None
