"""Blocks of rows on disk, which a try that is cut short leaves to the next one.

    blocks/NAME_00000012.arrow   a block; its identity and what else is known of it are in the metadata of its schema

A block appears when it is complete. Its identity says what it was made from, so that one of other files or settings is
not taken for it but written again. Importing this module is cheap.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_dist.files import atomic_path, short_hash, sweep_below

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "blocks"  # in the folder of a stage, whose `keeps` names it

METADATA = b"kd_dist"


def identity_of(*made_from: Any) -> str:
    """Return a short hash of all that a block is made from, in JSON."""
    return short_hash(made_from, digits=32)


@contextlib.contextmanager
def kept_until_done(folder: Path) -> Iterator[Path]:
    """Yield a folder for blocks, without what killed writers left half-written in it; remove it if all went well."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep_below(folder)
    try:
        yield folder
        shutil.rmtree(folder)
    finally:
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


@dataclass(frozen=True)
class KeptBlocks:
    """The blocks of one name in a folder, by their numbers."""

    folder: Path
    name: str

    def path(self, number: int) -> Path:
        """Return the file of a block."""
        return self.folder / f"{self.name}_{number:08d}.arrow"

    def write(self, number: int, table: "pa.Table", identity: str, **facts: Any) -> None:
        """Write a block, and facts about it as JSON, atomically."""
        import pyarrow as pa

        metadata = {METADATA: json.dumps({**facts, "identity": identity, "rows": len(table)}).encode()}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
        with (
            atomic_path(self.path(number)) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table)

    def read(self, number: int) -> "pa.Table":
        """Return the table of a block, memory-mapped."""
        import pyarrow as pa

        return pa.ipc.open_stream(pa.memory_map(str(self.path(number)))).read_all()

    def facts(self, number: int) -> dict[str, Any]:
        """Return the facts about a block."""
        return facts_of(self.read(number))

    def has(self, number: int, identity: str) -> bool:
        """Return whether the block is there, whole, and has this identity."""
        try:
            table = self.read(number)
            facts = facts_of(table)
            return (facts["identity"], facts["rows"]) == (identity, len(table))
        except (OSError, ValueError, KeyError):  # pyarrow's errors are one of the first two
            return False


def facts_of(table: "pa.Table") -> dict[str, Any]:
    """Return the facts about a block that was read."""
    return json.loads((table.schema.metadata or {}).get(METADATA, "{}"))
