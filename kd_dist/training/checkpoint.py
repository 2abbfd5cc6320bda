"""Atomic checkpoints that do not depend on the number of ranks or the ZeRO stage.

    checkpoints/step_00001000/weights.safetensors optimizer.safetensors state.json COMPLETE

COMPLETE holds the size and SHA-256 of every file. A checkpoint is written into a hidden folder beside its place, which
is then renamed. One whose sums are wrong is skipped for an older one. Rank 0 writes and verifies, every rank reads.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from kd_dist.errors import FULL, RunError
from kd_dist.files import read_json, sweep, sync, temporary_folder

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run after a step.

    Attributes:
        step: The number of steps done.
        tensors: Tensors by name, for each file (`weights`, `optimizer`).
        state: Everything else, as JSON values.
    """

    step: int
    tensors: dict[str, Tensors]
    state: dict[str, Any]


def checkpoint_path(directory: Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step."""
    return directory / f"step_{step:08d}"


def save_checkpoint(directory: Path, checkpoint: Checkpoint, keep: int, best_step: int = 0) -> Path:
    """Write `directory`/step_N, then remove old checkpoints.

    Args:
        directory: The folder of all checkpoints of the stage.
        checkpoint: What to save.
        keep: How many of the newest checkpoints to keep.
        best_step: A step whose checkpoint is kept as well; 0 for none.

    Returns:
        The folder of the new checkpoint.

    Raises:
        RunError: The disk is full or not writable; older checkpoints are unchanged.
    """
    place = checkpoint_path(directory, checkpoint.step)
    try:
        sweep(place)
        with temporary_folder(place) as folder:
            _write(folder, checkpoint)
            # Later ones are damaged, or the run would have resumed from them: they must not displace good ones.
            for stale in [path for path in _newest_first(directory) if path.name >= place.name]:
                shutil.rmtree(stale, ignore_errors=True)
            os.rename(folder, place)
        sync(directory)
    except OSError as error:
        last = next((path.name for path in _newest_first(directory)), "none")
        way_out = "free some space" if error.errno in FULL else "make the folder writable for you"
        raise RunError(
            f"cannot save step {checkpoint.step} in {directory}: {error.strerror}. The last checkpoint "
            f"({last}) is intact: {way_out}, then start the same run id again"
        ) from error
    for old in [
        path for path in list(_newest_first(directory))[keep:] if path != checkpoint_path(directory, best_step)
    ]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def _write(directory: Path, checkpoint: Checkpoint) -> None:
    contents = {f"{name}.safetensors": save(tensors) for name, tensors in checkpoint.tensors.items()}
    contents["state.json"] = json.dumps({"step": checkpoint.step, **checkpoint.state}, indent=2).encode()
    sums = {}
    for name, content in contents.items():
        _write_file(directory / name, content)
        sums[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    _write_file(directory / "COMPLETE", json.dumps(sums, indent=2).encode())
    sync(directory)


def _write_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sync(path)


def newest_good(directory: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint whose sums are right (None if there is none), and a message for each one skipped."""
    damaged: list[str] = []
    for path in _newest_first(directory):
        problem = _problem(path)
        if problem is None:
            return path, damaged
        damaged.append(f"checkpoint {path.name} is damaged ({problem}): skipped")
    return None, damaged


def _newest_first(directory: Path) -> Iterator[Path]:
    yield from sorted(directory.glob("step_*"), reverse=True)


def _problem(path: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None."""
    try:
        sums = read_json(path / "COMPLETE")
        for name, expected in sums.items():
            content = (path / name).read_bytes()
            if len(content) != expected["bytes"]:
                return f"{name} has {len(content):,} bytes instead of {expected['bytes']:,}"
            if hashlib.sha256(content).hexdigest() != expected["sha256"]:
                return f"{name} has a different SHA-256 than when it was saved"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return "COMPLETE is not readable"
    return None


def verified(directory: Path, step: int) -> Path:
    """Return the checkpoint of a step, whose sums are right.

    Raises:
        RunError: It is damaged or missing.
    """
    path = checkpoint_path(directory, step)
    if problem := _problem(path):
        raise RunError(
            f"the best checkpoint, {path}, cannot be used ({problem}): remove the folder of the stage and start the "
            "same run id again"
        )
    return path


def read_weights(path: Path) -> Tensors:
    """Read the weights of a checkpoint, which was verified before."""
    return load((path / "weights.safetensors").read_bytes())


def read_state(path: Path) -> dict[str, Any]:
    """Read the step and the other values of a checkpoint, which `newest_good` has verified."""
    state: dict[str, Any] = read_json(path / "state.json")
    return state


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, which `newest_good` has verified."""
    state = read_state(path)
    tensors = {file.stem: load(file.read_bytes()) for file in sorted(path.glob("*.safetensors"))}
    return Checkpoint(state.pop("step"), tensors, state)
