"""Group cleaned, deduplicated lines of a document into blocks."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kd_dist.data.cleaning import clean
from kd_dist.data.deduplication import SeenHashes
from kd_dist.data.readers import read_lines
from kd_dist.errors import CorpusError

MAX_BLOCK_LINES = 256

MAX_BLOCK_BYTES = 64 * 1024

MAX_GROUP_ITEMS = 4096  # a group is hashed or tokenized in one call: large enough to make the call worth it,

MAX_GROUP_SIZE = 512 * 1024  # small enough that its tokens and offsets as Python objects stay under 100 MB

Item = TypeVar("Item")


@dataclass
class TextStatistics:
    """Counts of what `blocks` has read so far. Characters and documents are those that were kept."""

    lines_read: int = 0
    lines_empty: int = 0
    lines_duplicate: int = 0
    lines_kept: int = 0
    characters: int = 0
    documents: int = 0


def blocks(
    files: Sequence[Path], text_field: str, statistics: TextStatistics, max_lines: int | None = None
) -> Iterator[list[str]]:
    """Yield blocks of cleaned lines that were not seen before, and count them in `statistics`.

    A block has consecutive lines of one document: at most 256, and at most 64 KiB unless a single line is longer.

    Args:
        max_lines: stop after this many lines, including borders between documents.

    Raises:
        CorpusError: what `read_lines` raises and, at the end, that there was no text.
    """
    block: list[str] = []
    size = 0
    inside_document = False
    lines = itertools.islice(_clean_lines(files, text_field, statistics), max_lines)
    for text in _unseen_lines(itertools.chain(lines, [None]), statistics):  # the last document ends, cut or not
        length = 0 if text is None else len(text.encode())
        if block and (text is None or len(block) == MAX_BLOCK_LINES or size + length > MAX_BLOCK_BYTES):
            yield block
            block, size = [], 0
        if text is not None:
            statistics.documents += not inside_document
            block.append(text)
            size += length
        inside_document = text is not None
    if not statistics.lines_kept:
        names = ", ".join(map(str, files)) or "an empty list of files"
        raise CorpusError(f"no text in {names} ({statistics.lines_read} lines read, all empty)")


def _unseen_lines(lines: Iterable[str | None], statistics: TextStatistics) -> Iterator[str | None]:
    """Yield the lines that were not seen before, and None at borders between documents."""
    seen = SeenHashes()
    for batch in grouped(lines, _size_of_line):
        unseen = iter(seen.unseen([text for text in batch if text is not None]))
        for text in batch:
            if text is None:
                yield None
            elif next(unseen):
                statistics.lines_kept += 1
                statistics.characters += len(text)
                yield text
            else:
                statistics.lines_duplicate += 1


def _clean_lines(files: Sequence[Path], text_field: str, statistics: TextStatistics) -> Iterator[str | None]:
    for file in files:
        for raw in read_lines(file, text_field):
            text = None
            if raw is not None:
                text = clean(raw) or None
                statistics.lines_read += 1
                statistics.lines_empty += text is None
            yield text
        yield None


def _size_of_line(text: str | None) -> int:
    return len(text) if text else 0


def grouped(
    items: Iterable[Item], size_of: Callable[[Item], int], max_items: int | None = None, max_size: int | None = None
) -> Iterator[list[Item]]:
    """Yield lists that are full as soon as they reach `max_items` or `max_size`, by default those of a group."""
    max_items, max_size = max_items or MAX_GROUP_ITEMS, max_size or MAX_GROUP_SIZE
    group: list[Item] = []
    size = 0
    for item in items:
        group.append(item)
        size += size_of(item)
        if len(group) >= max_items or size >= max_size:
            yield group
            group, size = [], 0
    if group:
        yield group
