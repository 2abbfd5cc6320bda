"""Store the teacher's logits for all rows on disk, to read them instead of running the teacher.

    outputs/block_00000003.parquet   keys and logits of some rows, until their shard is finished (see runs/blocks.py)
            part_00000003/           the rows of a finished shard, whose first block is 3:
                manifest.json        teacher, labels, tokenizer, which blocks of how many, SHA-256 of the other files
                keys_0007.npy        (N) sorted 64-bit hashes of the teacher's inputs (`token_rows.row_keys`)
                logits_0007.npy      (N, C) float32, in the order of the keys and of the data's labels

Each file of a part holds the keys of a range of its own, so that a row is looked for in one file, however many there
are. A row is found by its content, never by its position, so neither shuffling nor additional data can misalign the
two. Outputs of another teacher, other labels or other data are refused.

Shapes: B batch, N rows of some blocks or of a file, C classes.
"""

import functools
import hashlib
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.config.stages import TeacherOutputsStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.errors import RunError
from kd_dist.files import read_json, replaced_folder, sync, write_json
from kd_dist.model_files.model_configs import config_file
from kd_dist.runs.blocks import FILE_BYTES, MANIFEST, Blocks, files_at
from kd_dist.training.teacher_blocks import SPLITS, RowBlocks, arrays_of, make_blocks

FORMAT_VERSION = 1  # of the blocks: raise it when the same settings would give others


def run(stage: TeacherOutputsStage, stage_dir: Path, shard: int) -> None:
    """Write the outputs of one shard, unless they are there, from the first block on that is missing.

    Raises:
        UserError: The teacher's labels are not those of the data.
        RunError: The teacher's folder has no weights, or there are blocks of other settings or inputs.
    """
    identity, rows = identify(Path(stage.teacher.path), Path(stage.data.tokens)), RowBlocks.of(stage)
    folder, name = stage_dir / "outputs", f"{stage_dir.name}, shard {shard}"
    folder.mkdir(exist_ok=True)
    blocks = Blocks.agreed(folder, _manifest(stage, identity, rows))
    identity |= {"num_blocks": len(rows)}
    own = _not_written(folder, identity, range(shard, len(rows), stage.resources.shards))
    if own:
        blocks.fill(own, functools.partial(make_blocks, stage, rows), name)
        num_rows = sum(len(rows.rows(block)[1]) for block in own)
        write_part(folder, own, identity, num_rows, map(arrays_of, blocks.tables(own)))
    else:
        print(f"{name}: the outputs are there", flush=True)
    blocks.discard({block for part in _parts(folder) for block in _blocks_of(part)})


def _manifest(stage: TeacherOutputsStage, identity: dict[str, Any], rows: RowBlocks) -> dict[str, Any]:
    """Return what the blocks of a stage are made with."""
    tokens = PreparedRows(Path(stage.data.tokens))
    more = [PreparedRows(Path(folder)) for folder in stage.data.unlabelled_tokens]
    folders = [*map(tokens.split_folder, SPLITS), *(one.split_folder("train") for one in more)]
    return identity | {
        "format_version": FORMAT_VERSION,
        "engine.precision": stage.engine.precision,
        "block_rows": rows.num_rows,
        "rows": list(map(len, rows.splits)),
        "data": list(map(files_at, folders)),
    }


def _not_written(folder: Path, identity: dict[str, Any], own: Sequence[int]) -> list[int]:
    """Return the blocks of a shard that no part holds; a damaged part that begins with one of them is removed."""
    written: set[int] = set()
    for part in _parts(folder):
        begins_here, found = int(part.name.removeprefix("part_")) in own, set(_blocks_of(part))
        if not begins_here and found.isdisjoint(own):
            continue
        if _problem(part, identity) is None:
            written |= found
        elif begins_here:
            shutil.rmtree(part)
    return [block for block in own if block not in written]


def write_part(
    folder: Path,
    blocks: Sequence[int],
    identity: dict[str, Any],
    num_rows: int,
    pieces: Iterable[tuple[np.ndarray, np.ndarray]],
) -> None:
    """Write the outputs of some blocks, in place of a part with the same first block.

    Args:
        folder: The `outputs` folder, which exists.
        blocks: Their numbers.
        identity: What `identify` says of them, and `num_blocks` of all parts together.
        num_rows: Rows of all pieces.
        pieces: Keys (N) in any order, and logits (N, C) in the order of the data's labels; one is in memory at a time.
    """
    row = np.dtype([("key", np.uint64), ("logits", np.float32, (max(1, len(identity["label2id"])),))])
    num_files = max(1, math.ceil(num_rows * row.itemsize / FILE_BYTES))
    with replaced_folder(folder / f"part_{blocks[0]:08d}") as (work, output):
        _distribute(pieces, row, num_files, work)
        sums: dict[str, str] = {}
        for number in range(num_files):
            sums |= _write_sorted(work / str(number), row, output, number)
        content = {"blocks": list(blocks), "files": num_files, "sha256": sums}
        write_json(output / MANIFEST, identity | content)
        sync(output)


def _distribute(
    pieces: Iterable[tuple[np.ndarray, np.ndarray]], row: np.dtype[Any], num_files: int, work: Path
) -> None:
    """Write each row to the file of its key."""
    for keys_N, logits_NC in pieces:
        files_N = _files_of(keys_N, num_files)
        order = np.argsort(files_N, kind="stable")
        rows_N = np.empty(len(order), row)
        rows_N["key"], rows_N["logits"] = keys_N[order], logits_NC[order]
        ends = np.searchsorted(files_N[order], np.arange(num_files), side="right")
        for number, of_file in enumerate(np.split(rows_N, ends[:-1])):
            with open(work / str(number), "ab") as file:
                of_file.tofile(file)


def _files_of(keys_N: np.ndarray, num_files: int) -> np.ndarray:
    """Return (N) in which file each key is: hashes are spread evenly, so equal ranges make files of equal sizes."""
    starts = np.array([number * 2**64 // num_files for number in range(1, num_files)], dtype=np.uint64)
    return np.searchsorted(starts, keys_N, side="right")


def _write_sorted(source: Path, row: np.dtype[Any], output: Path, number: int) -> dict[str, str]:
    """Write the rows of a file in the order of their keys, remove it, and return the SHA-256 of what was written."""
    rows_N = np.fromfile(source, row)
    source.unlink()
    order = np.argsort(rows_N["key"], kind="stable")
    sums = {}
    for what, array in (("keys", rows_N["key"]), ("logits", rows_N["logits"])):
        path = output / _name(what, number)
        np.save(path, array[order])
        sync(path)
        sums[path.name] = _sum_of([path])
    return sums


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


def _name(what: str, number: int) -> str:
    return f"{what}_{number:04d}.npy"


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part_*"))


def _read(part: Path) -> dict[str, Any]:
    """Read the manifest of a part.

    Raises:
        ValueError: It is damaged.
    """
    content = read_json(part / MANIFEST)
    if not isinstance(content, dict) or not {"blocks", "num_blocks", "files", "sha256"} <= content.keys():
        raise ValueError("not the description of a part")
    return content


def _blocks_of(part: Path) -> list[int]:
    """Return the blocks of a part; none of one that is damaged, or that another shard is replacing."""
    try:
        return _read(part)["blocks"]
    except (OSError, ValueError):
        return []


def _problem(part: Path, identity: dict[str, Any]) -> str | None:
    """Return what is wrong with a part, or None."""
    try:
        content = _read(part)
        different = [name for name, value in identity.items() if content.get(name) != value]
        if different:
            return f"{part.name} belongs to another {' and '.join(different)}"
        for name, expected in content["sha256"].items():
            if _sum_of([part / name]) != expected:
                return f"{part.name}/{name} has a different SHA-256 than when it was written"
    except FileNotFoundError as error:
        return f"{part.name}/{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return f"{part.name}/{MANIFEST} is not readable ({error})"
    return None


def verify(folder: Path, teacher: Path | None, tokens: Path) -> None:
    """Verify all parts of the outputs: whether they are there, undamaged, and made for this use.

    Args:
        folder: The `outputs` folder.
        teacher: The folder of the teacher that they must come from; None where no model here has made them.
        tokens: The folder of the rows that they must belong to.

    Raises:
        RunError: Blocks are missing or damaged, or belong to another teacher, tokenizer or other labels.
    """
    parts, identity = _parts(folder), identify(teacher, tokens)
    problems = [problem for part in parts if (problem := _problem(part, identity))]
    if not parts:
        problems.append("no part of them is there")
    elif not problems:
        there, expected = {block for part in parts for block in _blocks_of(part)}, _read(parts[0])["num_blocks"]
        problems += [f"{len(there):,} of {expected:,} blocks are there"] * (len(there) != expected)
    if problems:
        raise RunError(
            f"the teacher's outputs in {folder} cannot be used: {'; '.join(problems)}. Remove {folder.parent} and "
            "start the same run again to write them again"
        )


class _Part:
    """A part of the outputs, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        numbers = range(_read(folder)["files"])
        self._keys, self.logits = (
            [np.load(folder / _name(what, number), mmap_mode="r") for number in numbers] for what in ("keys", "logits")
        )

    def fill(self, keys_B: np.ndarray, logits_BC: np.ndarray) -> None:
        """Write the logits of those rows that are in this part, given their keys."""
        files_B = _files_of(keys_B, len(self._keys))
        for number in np.unique(files_B):
            keys, rows = self._keys[number], np.flatnonzero(files_B == number)
            if len(keys):
                places = np.minimum(np.searchsorted(keys, keys_B[rows]), len(keys) - 1)
                found = keys[places] == keys_B[rows]
                logits_BC[rows[found]] = self.logits[number][places[found]]


class StoredOutputs:
    """All parts of the outputs, memory-mapped.

    Args:
        folder: The `outputs` folder, which `verify` has found to be right.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = list(map(_Part, _parts(folder)))
        self._num_classes = self._parts[0].logits[0].shape[1]

    def of(self, keys_B: np.ndarray) -> np.ndarray:
        """Return the logits (B, C) of rows, given their `row_keys` (B).

        Raises:
            RunError: There is no output for a row.
        """
        logits_BC = np.full((len(keys_B), self._num_classes), np.nan, dtype=np.float32)
        for part in self._parts:
            part.fill(keys_B, logits_BC)
        if np.isnan(logits_BC).any():
            raise RunError(
                f"{self._folder} has no output for {int(np.isnan(logits_BC[:, 0]).sum())} rows of a batch: it was "
                f"written for other data. Remove {self._folder.parent} and start the same run again"
            )
        return logits_BC
