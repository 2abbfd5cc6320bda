"""Count the records of files quickly: whole where they are small, else by how they begin and how large they are.

A submission must not wait for terabytes to be read: at most `BUDGET` bytes of all files together are looked at.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd_dist.data.discovery import JSON_SUFFIXES, TABLE_SUFFIXES, format_suffix
from kd_dist.data.file_kinds import HEAD_BYTES
from kd_dist.data.lines import BYTE_ORDER_MARK, open_input
from kd_dist.data.tables import count_rows

BUDGET = 96 * 1024 * 1024

FILES_READ = 64  # of more, evenly chosen ones stand for all

CHUNK = 1 << 20


def count_records(files: Sequence[Path], field: str) -> int:
    """Count the lines of text files, and the records of JSON, parquet and Arrow files.

    Args:
        files: Plain or .gz.
        field: A field that every record of a JSON list has.

    Raises:
        CorpusError: A file cannot be read.
    """
    chosen = evenly(files, FILES_READ)
    records, seen = 0, 0.0
    for file in chosen:
        found, share = _records_of(file, field, BUDGET // len(chosen))
        records += found
        seen += share * file.stat().st_size
    size = sum(file.stat().st_size for file in files)
    return round(records * size / seen) if seen else records


def evenly(files: Sequence[Path], number: int) -> Sequence[Path]:
    """Return about so many of the files, at equal distances; all if there are no more."""
    return files[:: -(-len(files) // number) or 1]


def _records_of(file: Path, field: str, budget: int) -> tuple[int, float]:
    """Return the records in the beginning of a file, and the share of the file that this is."""
    suffix = format_suffix(file)
    if suffix in TABLE_SUFFIXES:
        return count_rows(file), 1.0
    records, read, last = 0, 0, b"\n"
    with open_input(file) as stream:
        is_list = suffix in JSON_SUFFIXES and _begins_list(stream.peek(HEAD_BYTES))
        mark = f'"{field}"'.encode() if is_list else b"\n"
        while read < budget and (chunk := stream.read(CHUNK)):
            records, read, last = records + chunk.count(mark), read + len(chunk), chunk
        if stream.peek(1):
            return records, _position(stream) / file.stat().st_size
    has_open_line = not is_list and not last.endswith(b"\n")
    return records + has_open_line, 1.0


def _begins_list(head: bytes) -> bool:
    return head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"[")


def _position(stream: Any) -> int:
    """Return how many bytes of the file on disk were read, packed or not."""
    return int(getattr(stream, "fileobj", stream).tell())
