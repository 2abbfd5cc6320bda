"""The teacher's logits on disk: written once for all rows, then read in place of running the teacher.

    outputs/manifest_00003.json   teacher, data, labels, shard 3 of how many, rows, and the SHA-256 of both files
            keys_00003.npy        (N) sorted 64-bit hashes of what the teacher was fed (`batches.row_keys`)
            logits_00003.npy      (N, C) float32, in the order of the keys and of the data's labels

A row is found by what it says, never by its position, so neither shuffling nor more data can misalign the two. Whatever
does not belong to the teacher, the labels and the data at hand is refused.

Shapes: B batch, N rows of a shard, C classes.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_dist.config.model_configs import config_file
from kd_dist.config.stages import TeacherOutputsStage
from kd_dist.data.token_rows import TokenRows, row_keys
from kd_dist.data.tokenizers import load_tokenizer
from kd_dist.errors import RunError
from kd_dist.files import atomic_path, read_json, write_json
from kd_dist.models.device import own_device
from kd_dist.models.teacher import Teacher, Wanted

BATCH_ROWS = 64

SPLITS = ("train", "validation")

SECONDS_BETWEEN_LINES = 30


def run(stage: TeacherOutputsStage, stage_dir: Path, shard: int) -> None:
    """Write one shard of the outputs, unless it is there.

    Raises:
        UserError: the teacher's labels are not those of the data.
        RunError: the teacher's folder has no weights.
    """
    shards = stage.resources.shards
    identity = identify(Path(stage.teacher.path), Path(stage.data.tokens)) | {"shard": shard, "shards": shards}
    folder = stage_dir / "outputs"
    folder.mkdir(exist_ok=True)
    _drop_other_division(folder, shards)
    if _problem(folder / _name("manifest", shard, "json"), identity) is None:
        print(f"{stage_dir.name}: shard {shard} is there", flush=True)
        return
    keys, logits = _outputs_of(stage, shard)
    order = np.argsort(keys, kind="stable")
    sums = {
        name: _write(folder / name, array[order])
        for name, array in ((_name("keys", shard, "npy"), keys), (_name("logits", shard, "npy"), logits))
    }
    write_json(folder / _name("manifest", shard, "json"), identity | {"rows": len(keys), "sha256": sums})


def identify(teacher: Path, tokens: Path) -> dict[str, Any]:
    """What outputs belong to: the teacher by its weights, the labels by name and order, the tokenizer's ids.

    Raises:
        RunError: the teacher's folder has no weights.
    """
    return {
        "teacher": _sum_of([config_file(teacher) or teacher / "config.json", *_weights(teacher)]),
        "label2id": read_json(tokens / "label2id.json"),
        "tokenizer": _sum_of(sorted((tokens / "tokenizer").glob("tokenizer*.json"))),
    }


def _weights(teacher: Path) -> list[Path]:
    """The files that transformers loads: safetensors where there are any."""
    files = sorted(teacher.glob("*.safetensors")) or sorted(teacher.glob("pytorch_model*.bin"))
    if not files:
        raise RunError(f"teacher.path={teacher} has no weights: neither *.safetensors nor pytorch_model*.bin")
    return files


def _sum_of(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _name(what: str, shard: int, suffix: str) -> str:
    return f"{what}_{shard:05d}.{suffix}"


def _drop_other_division(folder: Path, shards: int) -> None:
    """Shards of another number of shards hold other rows; a damaged manifest does not say which."""
    for path in folder.glob("manifest_*.json"):
        try:
            content = _read(path)
        except FileNotFoundError:  # another shard, which started at the same time, was faster
            continue
        except ValueError:
            content = {"shards": None, "sha256": {}}
        if content["shards"] != shards:
            for name in (path.name, *content["sha256"]):
                (folder / name).unlink(missing_ok=True)


def _read(manifest: Path) -> dict[str, Any]:
    """Raises ValueError for a damaged manifest."""
    content = read_json(manifest)
    if not isinstance(content, dict) or not {"shards", "sha256"} <= content.keys():
        raise ValueError("not the description of a shard")
    return content


def _outputs_of(stage: TeacherOutputsStage, shard: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys (N) and logits (N, C) of this shard's rows, which are every `shards`-th."""
    tokens = Path(stage.data.tokens)
    device = own_device()
    teacher = Teacher(
        stage.teacher.path,
        Wanted(logits=True),
        precision="fp32",  # as the teacher that runs along, unless training is told otherwise
        device=device,
        label2id=read_json(tokens / "label2id.json"),
    )
    pad_token_id = load_tokenizer(tokens / "tokenizer").pad_token_id
    keys = [np.empty(0, dtype=np.uint64)]
    logits = [np.empty((0, teacher.model.config.num_labels), dtype=np.float32)]
    for split in SPLITS:
        rows = TokenRows(tokens, split, pad_token_id)
        for batch, found in _batches(rows, shard, stage.resources.shards):
            keys.append(found)
            logits.append(_logits(teacher, batch, device))
    return np.concatenate(keys), np.concatenate(logits)


def _batches(rows: TokenRows, shard: int, shards: int) -> Iterator[tuple[dict[str, torch.Tensor], np.ndarray]]:
    """Rows of like lengths, and their keys, with a line about the progress now and then."""
    own = np.arange(shard, len(rows), shards)
    own = own[np.argsort(rows.lengths[own], kind="stable")]
    started = last = time.monotonic()
    for start in range(0, len(own), BATCH_ROWS):
        batch = rows.collate(own[start : start + BATCH_ROWS])
        yield batch, row_keys(batch)
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            done = start + BATCH_ROWS
            left = (last - started) / done * (len(own) - done)
            print(f"teacher outputs: {done:,} of {len(own):,} rows, {left:.0f} s left", flush=True)


def _logits(teacher: Teacher, batch: dict[str, torch.Tensor], device: torch.device) -> np.ndarray:
    logits_BC = teacher({name: tensor.to(device) for name, tensor in batch.items()}).logits
    assert logits_BC is not None
    return logits_BC.cpu().numpy()


def _write(path: Path, array: np.ndarray) -> str:
    """Write a file that is there as a whole or not at all; returns its SHA-256."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array)
    return _sum_of([path])


def _problem(manifest: Path, identity: dict[str, Any]) -> str | None:
    """What is wrong with a shard, or None."""
    try:
        content = _read(manifest)
        different = [name for name, value in identity.items() if content.get(name) != value]
        if different:
            return f"{manifest.name} belongs to another {' and '.join(different)}"
        for name, expected in content["sha256"].items():
            if _sum_of([manifest.parent / name]) != expected:
                return f"{name} has another SHA-256 than when it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return f"{manifest.name} is not readable ({error})"
    return None


class StoredOutputs:
    """All shards of the outputs, verified and memory-mapped."""

    def __init__(self, folder: Path, teacher: Path, tokens: Path) -> None:
        """
        Raises:
            RunError: shards are missing or damaged, or belong to another teacher, tokenizer or other labels.
        """
        self._folder = folder
        manifests = sorted(folder.glob("manifest_*.json"))
        identity = identify(teacher, tokens)
        problems = [problem for path in manifests if (problem := _problem(path, identity))]
        shards = int(_read(manifests[0])["shards"]) if manifests and not problems else 0
        if not problems and len(manifests) != max(shards, 1):
            problems.append(f"{len(manifests)} shards are there of {shards or 'at least one'}")
        if problems:
            raise RunError(
                f"the teacher's outputs in {folder} cannot be used: {'; '.join(problems)}. Remove {folder.parent} and "
                "start the same run again to have them written anew"
            )
        self._keys, self._logits = (
            [np.load(folder / _name(what, shard, "npy"), mmap_mode="r") for shard in range(shards)]
            for what in ("keys", "logits")
        )

    def of(self, keys_B: np.ndarray) -> np.ndarray:
        """(B, C) logits of rows, by `row_keys`.

        Raises:
            RunError: a row for which there is no output.
        """
        logits_BC = np.full((len(keys_B), self._logits[0].shape[1]), np.nan, dtype=np.float32)
        for keys, logits in zip(self._keys, self._logits, strict=True):
            if not len(keys):
                continue
            places = np.minimum(np.searchsorted(keys, keys_B), len(keys) - 1)
            found = keys[places] == keys_B
            logits_BC[found] = logits[places[found]]
        if np.isnan(logits_BC).any():
            raise RunError(
                f"{self._folder} has no output for {int(np.isnan(logits_BC[:, 0]).sum())} rows of a batch: it was "
                f"written for other data. Remove {self._folder.parent} and start the same run again"
            )
        return logits_BC
