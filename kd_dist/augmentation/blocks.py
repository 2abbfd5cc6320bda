"""Blocks of augmented rows on disk.

    shards/manifest.json            settings, models and data that every block was made with
           block_00000012.parquet   the rows from 12 x 256 on: text, text_pair, labels, row, copy (0: the original)

A block depends only on its rows and the settings. Shard i of n writes the blocks i, i + n, ... that are missing, so any
number of shards writes the same bytes (on the same kind of device).
"""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from kd_dist.augmentation.sources import Sources
from kd_dist.config.stages import AugmentStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.errors import RunError
from kd_dist.files import atomic_path, read_json, sweep, write_json

FORMAT_VERSION = 2  # raise it when the same settings would give other rows

BLOCK_ROWS = 256

MANIFEST = "manifest.json"

METADATA = b"kd_dist"  # under this key a block keeps its identity and its tally

# What became of the rows of a block: the number of `rows`, of copies `tried`, of `equal` ones and of ones `refused` by
# the teacher; of `words` that may be replaced, and of `replaceable` ones, which have candidates.
Tally = Counter[str]


def num_kept(tally: Tally) -> int:
    """Return how many copies were written."""
    return tally["tried"] - tally["equal"] - tally["refused"]


def describe(tally: Tally) -> str:
    """Describe what became of the rows and words."""
    refused = f", {tally['refused']:,} refused by the teacher" if tally["refused"] else ""
    return (
        f"{tally['rows']:,} rows gave {num_kept(tally):,} more of {tally['tried']:,} tried ({tally['equal']:,} equal"
        f"{refused}); {tally['replaceable']:,} of {tally['words']:,} words had candidates"
    )


def manifest_of(stage: AugmentStage, sources: Sources, num_rows: int) -> dict[str, Any]:
    """Return the settings, models and data that the blocks of a stage are made with."""
    return {
        "format_version": FORMAT_VERSION,
        "settings": stage.augment.model_dump(),
        "rows": num_rows,
        "block_rows": BLOCK_ROWS,
        "data": files_at(PreparedRows(Path(stage.data.tokens)).split_folder("train")),
        "teacher": files_at(Path(stage.teacher.path)) if stage.teacher.path and stage.augment.keep_confidence else None,
    } | {name: path and files_at(Path(path)) for name, path in sources._asdict().items()}


def files_at(path: Path) -> list[list[Any]]:
    """Return (name, bytes, time of change) of a file or of each file in a folder; only the name of a hub model."""
    if not path.exists():
        return [[str(path)]]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def identity_of(manifest: dict[str, Any]) -> str:
    """Return a short hash of a manifest, which every block carries."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def agree_on_manifest(folder: Path, manifest: dict[str, Any]) -> str:
    """Write the manifest, as every shard does, and return its identity.

    Raises:
        RunError: the folder has another manifest.
    """
    path = folder / MANIFEST
    before = read_json(path) if path.exists() else manifest
    if before != manifest:
        pairs = [(before.get(key), value, key) for key, value in manifest.items() if key != "settings"]
        pairs += [(before["settings"].get(key), value, f"augment.{key}") for key, value in manifest["settings"].items()]
        differing = ", ".join(key for old, new, key in pairs if old != new)
        raise RunError(
            f"{folder} holds blocks of other settings or inputs ({differing}); remove the folder, or choose another "
            "--run-id"
        )
    write_json(path, manifest)
    return identity_of(manifest)


def num_blocks(num_rows: int) -> int:
    """Return how many blocks the rows make."""
    return -(-num_rows // BLOCK_ROWS)


def rows_of_block(block: int) -> slice:
    """Return which rows a block is made of."""
    return slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)


def block_path(folder: Path, block: int) -> Path:
    """Return the file of a block."""
    return folder / f"block_{block:08d}.parquet"


def write_block(path: Path, table: Any, identity: str, tally: Tally) -> None:
    """Write a block, with its tally, atomically."""
    import pyarrow.parquet as pq

    metadata = json.dumps({"identity": identity, "tally": tally})
    table = table.replace_schema_metadata({METADATA: metadata.encode()})
    sweep(path)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_block(path: Path) -> Any:
    """Read the Arrow table of a block and verify every byte.

    Raises:
        ValueError, OSError: the block is damaged.
    """
    import pyarrow.parquet as pq

    with open(path, "rb") as file:
        return pq.read_table(file, page_checksum_verification=True, use_threads=False)


def read_tally(path: Path, identity: str) -> Tally:
    """Read the tally of a block from the end of the file.

    Raises:
        ValueError, OSError: the block is damaged, or was written with other settings.
    """
    import pyarrow.parquet as pq

    metadata = json.loads((pq.read_schema(path).metadata or {}).get(METADATA, "{}"))
    if metadata.get("identity") != identity:
        raise ValueError("written with other settings")
    return Tally(metadata["tally"])


def is_good_block(path: Path, identity: str) -> bool:
    """Return whether the block is there, undamaged, and of these settings."""
    try:
        read_tally(path, identity)
        read_block(path)
    except (OSError, ValueError):  # pyarrow's errors are one or the other
        return False
    return True
