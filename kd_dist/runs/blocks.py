"""Blocks of rows on disk: what a stage in shards has done so far, and goes on from when a try was cut short.

    manifest.json            settings, models and data that every block was made with
    block_00000012.parquet   block 12 or, once enough are there for a file, blocks of one shard from 12 on; a row group
                             each

A block depends only on its rows and the manifest. Shard i of n writes the blocks i, i + n, ... that are missing, so
neither kills nor the number of shards change what is in them (on the same kind of device).
"""

import contextlib
import hashlib
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from kd_dist.errors import RunError
from kd_dist.files import atomic_path, read_json, short_hash, write_json

FILE_BYTES = 1 << 28  # about as much as a file holds: of smaller ones, many millions of rows would make too many

MANIFEST = "manifest.json"

METADATA = b"kd_dist"  # under this key a file keeps its identity, and tally and number of rows of each block

SUM_BYTES = 16  # of a checksum before that

BLOCKS_AT_ONCE = 16  # in memory, of those that are read in a row

SECONDS_BETWEEN_LINES = 60

Tally = Counter[str]
"""How many rows a block has, and whatever else the stage counts."""

Maker = Callable[[Iterable[int]], Iterator[tuple[Any, Tally]]]
"""Makes the Arrow table and the tally of each of some blocks, in order; models are loaded for the first one."""


class Place(NamedTuple):
    """Where a block is: a row group of a file."""

    path: Path
    group: int


def files_at(path: Path) -> list[list[Any]]:
    """Return (name, bytes, time of change) of a file or of each file in a folder; only the name of a hub model."""
    if not path.exists():
        return [[str(path)]]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def identity_of(manifest: dict[str, Any]) -> str:
    """Return a short hash of a manifest, which every file of blocks carries."""
    return short_hash(manifest)


@dataclass(frozen=True)
class Blocks:
    """The blocks in a folder that were made with one manifest.

    Args:
        folder: Where they are.
        identity: The `identity_of` that manifest.
    """

    folder: Path
    identity: str

    @classmethod
    def agreed(cls, folder: Path, manifest: dict[str, Any]) -> Self:
        """Write the manifest, as every shard does, and return its blocks.

        Raises:
            RunError: The folder has another manifest.
        """
        path = folder / MANIFEST
        before = read_json(path) if path.exists() else manifest
        if before != manifest:
            differing = ", ".join(key for key in manifest | before if before.get(key) != manifest.get(key))
            raise RunError(
                f"{folder} holds blocks of other settings or inputs ({differing}); remove the folder, or choose "
                "another --run-id"
            )
        write_json(path, manifest)
        return cls(folder, identity_of(manifest))

    def fill(self, own: Sequence[int], make: Maker, name: str) -> Tally:
        """Make the blocks of a shard that are missing, in order, and join all to files of about `FILE_BYTES`.

        Args:
            own: The numbers of the blocks.
            make: Makes missing ones.
            name: Names the shard in messages.

        Returns:
            The sum of the tallies of the blocks that were missing.
        """
        self._sweep(set(own))
        there = self._undamaged(own)
        missing = [block for block in own if block not in there]
        if len(missing) < len(own):
            print(f"{name}: {len(own) - len(missing):,} of {len(own):,} blocks are there", flush=True)
        made, tally, single, size = make(_with_progress(missing, name)), Tally(), list[int](), 0
        for block in own:
            if block not in there:
                table, found = next(made)
                self.write(block, table, found)
                tally += found
            elif there[block] > 1:
                continue
            single.append(block)
            size += self._path(block).stat().st_size
            if size >= FILE_BYTES:
                self._join(single)
                single, size = [], 0
        self._join(single)
        return tally

    def write(self, block: int, table: Any, tally: Tally) -> None:
        """Write a block, with its tally, to a file of its own, atomically."""
        self._write_file(self._path(block), {block: tally}, [table])

    def places(self) -> dict[int, Place]:
        """Return where each block is that is there, in order, by the ends of the files."""
        found = {
            block: Place(path, group)
            for path, blocks in sorted(self._files().items(), key=lambda file: -len(file[1]))
            for group, block in enumerate(blocks)
        }
        return dict(sorted(found.items()))

    def tally(self) -> Tally:
        """Return the sum of the tallies of all blocks that are there."""
        of_block = {block: tally for blocks in self._files().values() for block, tally in blocks.items()}
        return sum(of_block.values(), Tally())

    def damaged(self) -> dict[str, str]:
        """Return the files whose end cannot be read, and why."""
        found = {}
        for path in self._paths():
            try:
                self._blocks_in(path)
            except (OSError, ValueError) as error:
                found[path.name] = str(error)
        return found

    def tables(self, own: Iterable[int]) -> Iterator[Any]:
        """Yield the Arrow tables of blocks that are there, several blocks in each.

        Raises:
            ValueError, OSError: A block is damaged.
        """
        places, groups = self.places(), defaultdict[Path, list[int]](list)
        for block in own:
            groups[places[block].path].append(places[block].group)
        for path, all_of_file in groups.items():
            starts = range(0, len(all_of_file), BLOCKS_AT_ONCE)
            yield from _read_in_turn(path, [all_of_file[start : start + BLOCKS_AT_ONCE] for start in starts])

    def discard(self, blocks: Set[int]) -> None:
        """Remove the files that hold no other blocks than these."""
        for path, found in self._files().items():
            if found.keys() <= blocks:
                path.unlink(missing_ok=True)

    def _path(self, block: int) -> Path:
        return self.folder / f"block_{block:08d}.parquet"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("block_*.parquet"))

    def _files(self) -> dict[Path, dict[int, Tally]]:
        """Return the files of this manifest that can be read, with the tallies of their blocks."""
        found = {}
        for path in self._paths():
            with contextlib.suppress(OSError, ValueError):  # its blocks are missing, and written again
                found[path] = self._blocks_in(path)
        return found

    def _blocks_in(self, path: Path) -> dict[int, Tally]:
        """Return the tallies of the blocks in a file, in the order of its row groups.

        Raises:
            ValueError, OSError: The end of the file is damaged, or it was written with other settings.
        """
        import pyarrow.parquet as pq

        content = _content(pq.read_metadata(path))
        if content["identity"] != self.identity:
            raise ValueError("written with other settings")
        return {int(block): Tally(tally) for block, tally in content["blocks"].items()}

    def _sweep(self, own: Set[int]) -> None:
        """Remove what a try that was killed left half-written of a shard's files."""
        for remains in self.folder.glob(".block_*"):
            if int(remains.name.removeprefix(".block_").split(".")[0]) in own:
                remains.unlink()

    def _undamaged(self, own: Iterable[int]) -> dict[int, int]:
        """Return the blocks of a shard that are there, each with the number of blocks in its file.

        What a kill left beside the file that it was joined to is removed, and so is a damaged file of several blocks.
        """
        wanted, found = set(own), dict[int, int]()
        for path, blocks in sorted(self._files().items(), key=lambda file: -len(file[1])):
            if blocks.keys() <= found.keys():
                path.unlink(missing_ok=True)
            elif wanted.isdisjoint(blocks):
                continue
            elif _is_undamaged(path, len(blocks)):
                found |= dict.fromkeys(blocks, len(blocks))
            elif min(blocks) in wanted:
                path.unlink()
        return {block: number for block, number in found.items() if block in wanted}

    def _join(self, blocks: Sequence[int]) -> None:
        """Join blocks that are in files of their own to one, in place of the first."""
        if len(blocks) < 2:
            return
        paths = [self._path(block) for block in blocks]
        tallies = {block: tally for path in paths for block, tally in self._blocks_in(path).items()}
        self._write_file(paths[0], tallies, (read(path, [0]) for path in paths))
        for path in paths[1:]:
            path.unlink()

    def _write_file(self, path: Path, tallies: dict[int, Tally], tables: Iterable[Any]) -> None:
        import pyarrow.parquet as pq

        tables, rows = iter(tables), list[int]()
        first = next(tables)
        options = {"compression": "zstd", "use_dictionary": False, "write_page_checksum": True}  # few values are equal
        with atomic_path(path) as temporary, pq.ParquetWriter(temporary, first.schema, **options) as writer:
            for table in itertools.chain([first], tables):
                writer.write_table(table, row_group_size=len(table))
                rows.append(len(table))
            content = json.dumps({"identity": self.identity, "blocks": tallies, "rows": rows})
            writer.add_key_value_metadata({METADATA: _sum_of(content) + content.encode()})


def read(path: Path, groups: Sequence[int]) -> Any:
    """Read row groups of a file as one Arrow table, and verify every byte.

    Raises:
        ValueError, OSError: They are damaged.
    """
    (table,) = _read_in_turn(path, [groups])
    return table


def _read_in_turn(path: Path, several: Iterable[Sequence[int]]) -> Iterator[Any]:
    """Yield what `read` returns for each of several row groups; the end of the file, which is long, is read once."""
    import pyarrow.parquet as pq

    with open(path, "rb") as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        rows = _content(parquet.metadata)["rows"]
        for groups in several:
            table, num_rows = parquet.read_row_groups(groups, use_threads=False), sum(rows[group] for group in groups)
            if len(table) != num_rows:  # the headers of pages have no checksum
                raise ValueError(f"{len(table):,} rows instead of {num_rows:,}")
            yield table


def _content(metadata: Any) -> dict[str, Any]:
    """Return what the metadata of a file says of its blocks.

    Raises:
        ValueError: Nothing, or it is damaged.
    """
    found = (metadata.metadata or {}).get(METADATA, b"")
    if found[:SUM_BYTES] != _sum_of(found[SUM_BYTES:].decode()):
        raise ValueError("what it says of its blocks is damaged, or by another version")
    return json.loads(found[SUM_BYTES:])


def _sum_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).hexdigest()[:SUM_BYTES].encode()


def _is_undamaged(path: Path, num_groups: int) -> bool:
    try:
        for _ in _read_in_turn(path, [[group] for group in range(num_groups)]):
            pass
    except (OSError, ValueError):  # pyarrow's errors are one or the other
        return False
    return True


def _with_progress(blocks: Sequence[int], name: str) -> Iterator[int]:
    """Yield blocks, and print now and then how many are done and how long the others will take."""
    started = last = time.monotonic()
    for done, block in enumerate(blocks):
        if done and time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            minutes = (last - started) / done * (len(blocks) - done) / 60
            print(f"{name}: {done:,} of {len(blocks):,} blocks, {minutes:,.0f} minutes left", flush=True)
        yield block
