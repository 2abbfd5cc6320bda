"""Store the teacher's logits for all rows on disk, to read them instead of running the teacher.

    outputs/manifest_00003.json   teacher, labels, tokenizer, shard 3 of how many, rows, SHA-256 of both files
            keys_00003.npy        (N) sorted 64-bit hashes of the teacher's inputs (`token_rows.row_keys`)
            logits_00003.npy      (N, C) float32, in the order of the keys and of the data's labels

A row is found by its content, never by its position, so neither shuffling nor additional data can misalign the two.
Outputs of another teacher, other labels or other data are refused.

Shapes: B batch, N rows of a shard, C classes.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_dist.config.stages import TeacherOutputsStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows, row_keys
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import RunError
from kd_dist.files import atomic_path, read_json, sweep, write_json
from kd_dist.model_files.model_configs import config_file
from kd_dist.models.device import own_device
from kd_dist.models.teacher import Teacher, Wanted

BATCH_ROWS = 64

SPLITS = ("train", "validation")

SECONDS_BETWEEN_LINES = 30


def run(stage: TeacherOutputsStage, stage_dir: Path, shard: int) -> None:
    """Write one shard of the outputs, unless it already exists.

    Raises:
        UserError: The teacher's labels are not those of the data.
        RunError: The teacher's folder has no weights.
    """
    shards = stage.resources.shards
    identity = identify(Path(stage.teacher.path), Path(stage.data.tokens)) | {"shard": shard, "shards": shards}
    folder = stage_dir / "outputs"
    folder.mkdir(exist_ok=True)
    _remove_stale_shards(folder, shards)
    if _problem(folder / _name("manifest", shard, "json"), identity) is None:
        print(f"{stage_dir.name}: shard {shard} exists already", flush=True)
        return
    write_shard(folder, identity, *_outputs_of(stage, shard))


def write_shard(folder: Path, identity: dict[str, Any], keys: np.ndarray, logits: np.ndarray) -> None:
    """Write the outputs of one shard.

    Args:
        folder: The `outputs` folder, which exists.
        identity: What `identify` says of them, `shard` and `shards`.
        keys: (N) the `row_keys` of the rows, in any order.
        logits: (N, C) the logits of the rows, in the order of the data's labels.
    """
    shard = identity["shard"]
    order = np.argsort(keys, kind="stable")
    sums = {
        name: _write(folder / name, array[order])
        for name, array in ((_name("keys", shard, "npy"), keys), (_name("logits", shard, "npy"), logits))
    }
    write_json(folder / _name("manifest", shard, "json"), identity | {"rows": len(keys), "sha256": sums})


def identify(teacher: Path | None, tokens: Path) -> dict[str, Any]:
    """Return what outputs depend on: hashes of the teacher's weights and of the tokenizer, and the labels in order.

    Args:
        teacher: The folder of the teacher; None for outputs that no model here has made.
        tokens: The folder of the rows.

    Raises:
        RunError: The teacher's folder has no weights.
    """
    rows = PreparedRows(tokens)
    return {
        "teacher": teacher and _sum_of([config_file(teacher) or teacher / "config.json", *_weights(teacher)]),
        "label2id": rows.label2id,
        "tokenizer": _sum_of(sorted(rows.teacher_tokenizer_folder.glob("tokenizer*.json"))),
    }


def _weights(teacher: Path) -> list[Path]:
    """Return the files that transformers loads: safetensors if there are any."""
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


def _remove_stale_shards(folder: Path, shards: int) -> None:
    """Remove shards that were written with another number of shards, and those with a damaged manifest."""
    for path in folder.glob("manifest_*.json"):
        try:
            content = _read(path)
        except FileNotFoundError:  # another shard that started at the same time has removed it
            continue
        except ValueError:
            content = {"shards": None, "sha256": {}}
        if content["shards"] != shards:
            for name in (path.name, *content["sha256"]):
                (folder / name).unlink(missing_ok=True)


def _read(manifest: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        ValueError: It is damaged.
    """
    content = read_json(manifest)
    if not isinstance(content, dict) or not {"shards", "sha256"} <= content.keys():
        raise ValueError("not the description of a shard")
    return content


def _outputs_of(stage: TeacherOutputsStage, shard: int) -> tuple[np.ndarray, np.ndarray]:
    """Return keys (N) and logits (N, C) of the rows of this shard, which are every `shards`-th row."""
    tokens = Path(stage.data.tokens)
    device = own_device()
    teacher = Teacher(
        stage.teacher.path,
        Wanted(logits=True),
        precision=stage.engine.precision,
        device=device,
        label2id=PreparedRows(tokens).label2id,
    )
    pad_token_id = load_tokenizer(PreparedRows(tokens).tokenizer_folder).pad_token_id
    keys = [np.empty(0, dtype=np.uint64)]
    logits = [np.empty((0, teacher.model.config.num_labels), dtype=np.float32)]
    for split in SPLITS:
        more = stage.data.unlabelled_tokens if split == "train" else []
        rows = TokenRows(tokens, split, pad_token_id, unlabelled=list(map(Path, more)))
        for batch, found in _batches(rows, shard, stage.resources.shards):
            keys.append(found)
            logits.append(_logits(teacher, batch, device))
    return np.concatenate(keys), np.concatenate(logits)


def _batches(rows: TokenRows, shard: int, shards: int) -> Iterator[tuple[dict[str, torch.Tensor], np.ndarray]]:
    """Yield batches of rows of similar lengths and their keys (B), and print the progress now and then."""
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
    """Write an array atomically and return the SHA-256 of the file."""
    sweep(path)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array)
    return _sum_of([path])


def _problem(manifest: Path, identity: dict[str, Any]) -> str | None:
    """Return what is wrong with a shard, or None."""
    try:
        content = _read(manifest)
        different = [name for name, value in identity.items() if content.get(name) != value]
        if different:
            return f"{manifest.name} belongs to another {' and '.join(different)}"
        for name, expected in content["sha256"].items():
            if _sum_of([manifest.parent / name]) != expected:
                return f"{name} has a different SHA-256 than when it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return f"{manifest.name} is not readable ({error})"
    return None


def verify(folder: Path, teacher: Path | None, tokens: Path) -> None:
    """Verify all shards of the outputs: whether they are there, undamaged, and made for this use.

    Args:
        folder: The `outputs` folder.
        teacher: The folder of the teacher that they must come from; None where no model here has made them.
        tokens: The folder of the rows that they must belong to.

    Raises:
        RunError: Shards are missing or damaged, or belong to another teacher, tokenizer or other labels.
    """
    manifests = sorted(folder.glob("manifest_*.json"))
    identity = identify(teacher, tokens)
    problems = [problem for path in manifests if (problem := _problem(path, identity))]
    shards = int(_read(manifests[0])["shards"]) if manifests and not problems else 0
    if not problems and len(manifests) != max(shards, 1):
        problems.append(f"{len(manifests)} of {shards or 'at least 1'} shards exist")
    if problems:
        raise RunError(
            f"the teacher's outputs in {folder} cannot be used: {'; '.join(problems)}. Remove {folder.parent} and "
            "start the same run again to write them again"
        )


class StoredOutputs:
    """All shards of the outputs, memory-mapped.

    Args:
        folder: The `outputs` folder, which `verify` has found to be right.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shards = range(len(list(folder.glob("manifest_*.json"))))
        self._keys, self._logits = (
            [np.load(folder / _name(what, shard, "npy"), mmap_mode="r") for shard in shards]
            for what in ("keys", "logits")
        )

    def of(self, keys_B: np.ndarray) -> np.ndarray:
        """Return the logits (B, C) of rows, given their `row_keys` (B).

        Raises:
            RunError: There is no output for a row.
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
