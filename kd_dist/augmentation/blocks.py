"""Blocks of augmented rows on disk."""

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

# What became of the rows of a block: `rows` there were, copies `tried`, `equal` ones, ones `refused` by the teacher;
# `words` that may be replaced, and `replaceable` ones that have candidates.
Tally = Counter[str]


def num_kept(tally: Tally) -> int:
    """Copies that were written."""
    return tally["tried"] - tally["equal"] - tally["refused"]


def in_words(tally: Tally) -> str:
    refused = f", {tally['refused']:,} refused by the teacher" if tally["refused"] else ""
    return (
        f"{tally['rows']:,} rows gave {num_kept(tally):,} more of {tally['tried']:,} tried ({tally['equal']:,} equal"
        f"{refused}); {tally['replaceable']:,} of {tally['words']:,} words had candidates"
    )


def manifest_of(stage: AugmentStage, sources: Sources, num_rows: int) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "settings": stage.augment.model_dump(),
        "rows": num_rows,
        "block_rows": BLOCK_ROWS,
        "data": files_at(PreparedRows(Path(stage.data.tokens)).split_folder("train")),
        "teacher": files_at(Path(stage.teacher.path)) if stage.teacher.path and stage.augment.keep_confidence else None,
    } | {name: path and files_at(Path(path)) for name, path in sources._asdict().items()}


def files_at(path: Path) -> list[list[Any]]:
    """(name, bytes, time of change) of a file or of the files in a folder; just the name of a model on the hub."""
    if not path.exists():
        return [[str(path)]]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def identity_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def agree_on_manifest(folder: Path, manifest: dict[str, Any]) -> str:
    """Write the manifest, or see that it is the one that is there; returns its identity. Every shard does so."""
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
    return -(-num_rows // BLOCK_ROWS)


def rows_of_block(block: int) -> slice:
    """The rows that a block is made of."""
    return slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)


def block_path(folder: Path, block: int) -> Path:
    return folder / f"block_{block:08d}.parquet"


def write_block(path: Path, table: Any, identity: str, tally: Tally) -> None:
    """A file that is there as a whole or not at all."""
    import pyarrow.parquet as pq

    metadata = json.dumps({"identity": identity, "tally": tally})
    table = table.replace_schema_metadata({METADATA: metadata.encode()})
    sweep(path)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_block(path: Path) -> Any:
    """The Arrow table of a block, every byte verified. Raises ValueError or OSError when it is damaged."""
    import pyarrow.parquet as pq

    with open(path, "rb") as file:
        return pq.read_table(file, page_checksum_verification=True, use_threads=False)


def read_tally(path: Path, identity: str) -> Tally:
    """The tally of a block, from its end alone. Raises ValueError or OSError when it is no block of these settings."""
    import pyarrow.parquet as pq

    metadata = json.loads((pq.read_schema(path).metadata or {}).get(METADATA, "{}"))
    if metadata.get("identity") != identity:
        raise ValueError("written with other settings")
    return Tally(metadata["tally"])


def is_good_block(path: Path, identity: str) -> bool:
    try:
        read_tally(path, identity)
        read_block(path)
    except (OSError, ValueError):  # pyarrow's errors are one or the other
        return False
    return True
