"""Read the texts of a corpus into parts on disk, which a try that is cut short leaves to the next one.

Importing this module is cheap.
"""

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from kd_dist.data.arrow_rows import size_of_block, table_of_units
from kd_dist.data.blocks import Reading, grouped
from kd_dist.data.kept_blocks import KeptBlocks, identity_of

MAX_PART_BYTES = 8 * 1024 * 1024


class Part(NamedTuple):
    """A part: a block of units of text, the blocks of lines that one call tokenizes."""

    blocks: KeptBlocks
    number: int
    identity: str


@dataclass
class Parts:
    """The texts of a corpus in parts on disk, of units that one call tokenizes.

    Attributes:
        blocks: the parts.
        identity: of what they are made from.
        files, text_field, max_lines: as in `prepare`.
        reading: how far the files are read.
    """

    blocks: KeptBlocks
    identity: str
    files: Sequence[Path]
    text_field: str
    max_lines: int | None
    reading: Reading = field(default_factory=Reading)

    def read(self) -> Iterator[Part]:
        """Yield all parts: those that an earlier try has left, and then those that are read and written now.

        Raises:
            CorpusError: what `Reading.go_on` raises.
        """
        number, is_last = 0, False
        while not is_last and self.blocks.has(number, identity := identity_of(self.identity, number)):
            is_last = self.blocks.facts(number)["is_last"]
            yield Part(self.blocks, number, identity)
            number += 1
        if number:
            self.reading = Reading.of(self.blocks.facts(number - 1)["reading"])
        if not is_last:
            yield from self._write(number)

    def _write(self, first: int) -> Iterator[Part]:
        """Read on, and write and yield parts from this number on; the last may be empty."""
        groups = self.reading.go_on(self.files, self.text_field, self.max_lines, self._lines(first))
        parts = grouped(groups, lambda group: sum(map(size_of_block, group)), sys.maxsize, MAX_PART_BYTES)
        number = first
        for number, part in enumerate(parts, start=first):
            yield self._part(number, part, is_last=False)
        yield self._part(number + 1, [], is_last=True)

    def _part(self, number: int, groups: list[list[list[str]]], *, is_last: bool) -> Part:
        identity = identity_of(self.identity, number)
        table = table_of_units(itertools.chain.from_iterable(groups))
        self.blocks.write(number, table, identity, is_last=is_last, reading=asdict(self.reading))
        return Part(self.blocks, number, identity)

    def _lines(self, end: int) -> Iterator[str]:
        """Yield the lines of the parts before one."""
        for number in range(end):
            for unit in self.blocks.read(number).column("blocks"):
                yield from itertools.chain.from_iterable(unit.as_py())
