"""Group cleaned, deduplicated lines of a document into blocks."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

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
    for found in Reading(statistics).go_on(files, text_field, max_lines):
        yield from found


@dataclass
class Reading:
    """How far files are read: what can be kept, to go on later.

    Attributes:
        statistics: counts so far.
        num_items: lines and borders between documents so far.
        block: the lines of the block that is not complete.
        inside_document: whether the last line was kept.
    """

    statistics: TextStatistics = field(default_factory=TextStatistics)
    num_items: int = 0
    block: list[str] = field(default_factory=list)
    inside_document: bool = False

    @classmethod
    def of(cls, kept: dict[str, Any]) -> Self:
        """Return the reading that `asdict` was kept of."""
        return cls(**kept | {"statistics": TextStatistics(**kept["statistics"])})

    def go_on(
        self, files: Sequence[Path], text_field: str, max_lines: int | None, earlier: Iterable[str] = ()
    ) -> Iterator[list[list[str]]]:
        """Yield the blocks that the next lines complete, a group of lines after the other.

        Args:
            files: all of them, from the first.
            text_field: the column of the text in files that have columns.
            max_lines: stop after this many lines, including borders between documents.
            earlier: the lines of all blocks that were complete before.

        Raises:
            CorpusError: what `read_lines` raises and, at the end, that there was no text.
        """
        seen = SeenHashes()
        for group in grouped(itertools.chain(earlier, self.block), _size_of_line):
            seen.unseen(group)
        lines = map(self._cleaned, itertools.islice(_raw_lines(files, text_field), self.num_items, max_lines))
        for batch in grouped(itertools.chain(lines, [None]), _size_of_line):  # the last document ends, cut or not
            unseen = seen.unseen([text for text in batch if text is not None])
            self.num_items += len(batch)
            yield list(self._blocks(batch, iter(unseen)))
        if not self.statistics.lines_kept:
            names = ", ".join(map(str, files)) or "an empty list of files"
            raise CorpusError(f"no text in {names} ({self.statistics.lines_read} lines read, all empty)")

    def _cleaned(self, raw: str | None) -> str | None:
        """Return a clean line, or None for a border between documents."""
        if raw is None:
            return None
        text = clean(raw) or None
        self.statistics.lines_read += 1
        self.statistics.lines_empty += text is None
        return text

    def _blocks(self, lines: list[str | None], unseen: Iterator[bool]) -> Iterator[list[str]]:
        """Yield the blocks that lines complete."""
        size = sum(len(text.encode()) for text in self.block)
        for text in lines:
            if text is not None and not next(unseen):
                self.statistics.lines_duplicate += 1
                continue
            length = 0 if text is None else len(text.encode())
            if self.block and (text is None or self._is_full(size + length)):
                yield self.block
                self.block, size = [], 0
            if text is not None:
                self.statistics.lines_kept += 1
                self.statistics.characters += len(text)
                self.statistics.documents += not self.inside_document
                self.block.append(text)
                size += length
            self.inside_document = text is not None

    def _is_full(self, size: int) -> bool:
        return len(self.block) == MAX_BLOCK_LINES or size > MAX_BLOCK_BYTES


def _raw_lines(files: Sequence[Path], text_field: str) -> Iterator[str | None]:
    """Yield the lines of all files, and None at borders between documents."""
    for file in files:
        yield from read_lines(file, text_field)
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
