"""Labelled rows on disk, in blocks that are read in parallel, and of each row in memory what splitting asks for.

A row takes some 40 bytes of memory, however long its texts are. Rows are compared by 64-bit hashes of their texts:
among a million different texts, the probability that two are taken for equal is 3 in 100 million. Importing this module
is cheap.

Shapes: N rows, K blocks.
"""

import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.blocks import grouped
from kd_dist.data.columns import parse_columns
from kd_dist.data.kept_blocks import KeptBlocks, facts_of, identity_of
from kd_dist.data.labelled_rows import BadRows, Entry, RawRow, RowReader, Values, refuse_no_rows
from kd_dist.data.labels import is_finite_number
from kd_dist.data.lines import refuse_missing
from kd_dist.data.workers import UntilFailure, in_order

FORMAT_VERSION = 1  # raise it when the same files and settings would give other rows

MAX_BLOCK_ROWS = 16_384

MAX_BLOCK_BYTES = 8 * 1024 * 1024  # of texts: a second's work or so, and a few times as much memory in each worker

DECIDING = {"columns", "header", "separator", "task", "label_separator", "bad_rows"}  # what files and these say is read

Column = np.ndarray


class _Task(NamedTuple):
    """The entries that one block of rows is made of."""

    number: int
    identity: str
    entries: list[Entry]


@dataclass(frozen=True)
class Rows:
    """Rows of a split, in the order of the files.

    Attributes:
        blocks: their texts.
        starts_K: the number of the first row in each block and, at the end, that of all rows that were read.
        columns: of all rows that were read, N values each: `key`, a hash of the texts; `text_key` and `text_pair_key`
            of pairs; `characters`; `label_set`, a number in `label_sets`; `file`, a number; and `is_first_line`.
        label_sets: all that rows have for labels.
        numbers_N: which of the rows these are, ascending.
        num_numbers: how many texts that were read are numbers, by role; only counted for regression.
    """

    blocks: KeptBlocks
    starts_K: np.ndarray
    columns: dict[str, Column]
    label_sets: list[tuple[str, ...]]
    numbers_N: np.ndarray
    num_numbers: Counter[str]

    def __len__(self) -> int:
        return len(self.numbers_N)

    def __getitem__(self, position: int) -> RawRow:
        number = self.numbers_N[position]
        block = int(np.searchsorted(self.starts_K, number, side="right")) - 1
        return next(self._raw_rows(block, np.array([number])))

    def __iter__(self) -> Iterator[RawRow]:
        for block, numbers in self.by_block():
            yield from self._raw_rows(block, numbers)

    def by_block(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each block that some of the rows are in, and their numbers."""
        edges = np.searchsorted(self.numbers_N, self.starts_K)
        for block, (start, end) in enumerate(itertools.pairwise(edges)):
            if start < end:
                yield block, self.numbers_N[start:end]

    def places(self, block: int, numbers: np.ndarray) -> np.ndarray:
        """Return where rows are in their block."""
        return numbers - self.starts_K[block]

    def _raw_rows(self, block: int, numbers: np.ndarray) -> Iterator[RawRow]:
        table = self.blocks.read(block)
        files = facts_of(table)["files"]
        wanted = [name for name in ("text", "text_pair", "file", "place") if name in table.column_names]
        rows = table.select(wanted).take(self.places(block, numbers)).to_pylist()
        for row, label_set in zip(rows, self.columns["label_set"][numbers].tolist(), strict=True):
            yield RawRow(
                row["text"], row.get("text_pair"), self.label_sets[label_set], Path(files[row["file"]]), row["place"]
            )

    def column(self, name: str) -> Column:
        """Return (N) the values of a column for these rows."""
        return self.columns[name][self.numbers_N]

    def text_roles(self) -> list[str]:
        """Return the roles of the texts of a row."""
        return ["text", "text_pair"] if "text_pair_key" in self.columns else ["text"]

    def select(self, is_kept_N: np.ndarray) -> "Rows":
        """Return some of the rows."""
        return replace(self, numbers_N=self.numbers_N[is_kept_N])

    def label_set_counts(self) -> np.ndarray:
        """Return how many rows have each set of labels."""
        return np.bincount(self.column("label_set"), minlength=len(self.label_sets))

    def label_counts(self) -> Counter[str]:
        """Return how many rows have each label."""
        found: Counter[str] = Counter()
        for labels, count in zip(self.label_sets, self.label_set_counts().tolist(), strict=True):
            found.update(dict.fromkeys(labels, count) if count else {})
        return found

    def label_sets_in_use(self) -> Iterator[tuple[int, int, int]]:
        """Yield the number of each set of labels, the position of the first row with it, and how many have it."""
        sets, firsts, counts = np.unique(self.column("label_set"), return_index=True, return_counts=True)
        for place in np.argsort(firsts):
            yield int(sets[place]), int(firsts[place]), int(counts[place])

    def values(self, role: str) -> Values:
        """Count what the rows have as `label`, `text` or `text_pair`."""
        if role == "label":
            counts = self.label_counts()
            numbers = sum(count for label, count in counts.items() if is_finite_number(label))
            return Values(counts.total(), len(counts), numbers)
        keys = self.column(f"{role}_key" if f"{role}_key" in self.columns else "key")
        return Values(len(keys), len(np.unique(keys)), self.num_numbers[role])

    def first_lines(self) -> list[RawRow]:
        """Return the rows that are the first line of a table of more than two rows."""
        files = self.column("file")
        are_first = self.column("is_first_line") & (np.bincount(files)[files] > 2)
        return [self[position] for position in np.flatnonzero(are_first).tolist()]

    def files(self, number: int) -> list[str]:
        """Return the first files that rows are from."""
        _, firsts = np.unique(self.column("file"), return_index=True)
        return [str(self[position].file) for position in np.sort(firsts)[:number].tolist()]


def read_rows(data: LabelledData, split: str, folder: Path, bad_rows: BadRows) -> tuple[Rows, Counter[str]]:
    """Read the rows of a split into blocks, those apart that an earlier try has left.

    Args:
        data: the settings.
        split: a setting that names files.
        folder: of the blocks.
        bad_rows: gets the rows that cannot be used.

    Returns:
        The rows, and how often files write each label (see `RowReader`).

    Raises:
        CorpusError: what `RowReader.read` raises.
    """
    blocks, patterns = KeptBlocks(folder, split), getattr(data, split)
    reader = RowReader(data, parse_columns(data.columns), bad_rows)
    found = _Found()
    for number in in_order(_Writer(blocks, data), _tasks(reader, data, patterns), data.num_workers):
        found.add(blocks, number)
    bad_rows.counts.update(found.bad_rows)
    refuse_no_rows(found.num_rows, patterns, bad_rows)
    reader.spellings.update(found.spellings)
    return found.rows(blocks), reader.spellings


def _tasks(reader: RowReader, data: LabelledData, patterns: Sequence[str]) -> Iterator[_Task]:
    """Divide what is in the files into blocks."""
    settings = data.model_dump(mode="json", include=DECIDING)
    entries = UntilFailure(reader.entries(patterns))
    for number, group in enumerate(grouped(entries, _size_of, MAX_BLOCK_ROWS, MAX_BLOCK_BYTES)):
        yield _Task(number, identity_of(FORMAT_VERSION, settings, _made_from(group)), group)
    entries.finish()


def _size_of(entry: Entry) -> int:
    if entry.is_document():
        return _stat(entry.file).st_size
    values = entry.values.values() if isinstance(entry.values, dict) else entry.values
    return sum(map(sys.getsizeof, values))


def _made_from(entries: list[Entry]) -> list[list[Any]]:
    """Return which part of which files entries are."""
    found = []
    for file, group in itertools.groupby(entries, lambda entry: entry.file):
        places, facts = [entry.place for entry in group], _stat(file)
        found.append([str(file), facts.st_size, facts.st_mtime_ns, places[0], places[-1]])
    return found


def _stat(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except FileNotFoundError as error:
        refuse_missing(file, error)


@dataclass(frozen=True)
class _Writer:
    """Write blocks of rows, in a worker."""

    blocks: KeptBlocks
    data: LabelledData

    def __call__(self, task: _Task) -> int:
        if not self.blocks.has(task.number, task.identity):
            self._write(task)
        return task.number

    def _write(self, task: _Task) -> None:
        bad_rows = BadRows(skip=self.data.bad_rows == "skip")
        reader = RowReader(self.data, parse_columns(self.data.columns), bad_rows)
        rows = [row for entry in task.entries if (row := reader.row(entry))]
        files = {file: number for number, file in enumerate(dict.fromkeys(str(row.file) for row in rows))}
        sets = {labels: number for number, labels in enumerate(dict.fromkeys(row.labels for row in rows))}
        self.blocks.write(
            task.number,
            _table(rows, files, sets),
            task.identity,
            files=list(files),
            label_sets=list(sets),
            spellings=reader.spellings,
            bad_rows=bad_rows.counts,
            num_numbers=_num_numbers(rows) if self.data.task == "regression" else {},
        )


def _table(rows: Sequence[RawRow], files: dict[str, int], sets: dict[tuple[str, ...], int]) -> Any:
    import pyarrow as pa

    columns = {
        "text": pa.array([row.text for row in rows], pa.string()),
        "place": pa.array([row.place for row in rows], pa.string()),
        "file": pa.array([files[str(row.file)] for row in rows], pa.int32()),
        "label_set": pa.array([sets[row.labels] for row in rows], pa.int32()),
        "is_first_line": pa.array([row.is_first_line for row in rows], pa.bool_()),
        "characters": pa.array([len(row.text) + len(row.text_pair or "") for row in rows], pa.int32()),
    }
    if rows and rows[0].text_pair is not None:
        columns["text_pair"] = pa.array([row.text_pair for row in rows], pa.string())
        columns |= {f"{role}_key": _keys(getattr(row, role) for row in rows) for role in ("text", "text_pair")}
    return pa.table(columns | {"key": _keys("\0".join(filter(None, row.key)) for row in rows)})  # no text has a NUL


def _keys(texts: Any) -> Any:
    import pyarrow as pa

    return pa.array([xxhash.xxh3_64_intdigest(text.encode()) for text in texts], pa.uint64())


def _num_numbers(rows: Sequence[RawRow]) -> dict[str, int]:
    roles = ("text", "text_pair")
    return {role: sum(is_finite_number(getattr(row, role) or "") for row in rows) for role in roles}


@dataclass
class _Found:
    """What is known of the blocks so far."""

    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[dict[str, Column]] = field(default_factory=list)
    label_sets: dict[tuple[str, ...], int] = field(default_factory=dict)
    spellings: Counter[str] = field(default_factory=Counter)
    bad_rows: Counter[str] = field(default_factory=Counter)
    num_numbers: Counter[str] = field(default_factory=Counter)
    num_files: int = 0
    last_file: str | None = None

    @property
    def num_rows(self) -> int:
        return self.starts[-1]

    def add(self, blocks: KeptBlocks, number: int) -> None:
        """Add a block."""
        table = blocks.read(number)
        facts = facts_of(table)
        for name in ("spellings", "bad_rows", "num_numbers"):
            getattr(self, name).update(facts[name])
        self.starts.append(self.num_rows + len(table))
        if not len(table):
            return
        names = [name for name in table.column_names if name not in ("text", "text_pair", "place")]
        columns = {name: np.array(table.column(name).to_numpy()) for name in names}
        sets = [self.label_sets.setdefault(tuple(labels), len(self.label_sets)) for labels in facts["label_sets"]]
        columns["label_set"] = np.array(sets, np.int32)[columns["label_set"]]
        goes_on = facts["files"][0] == self.last_file  # a table may be in several blocks
        columns["file"] += self.num_files - goes_on
        self.num_files += len(facts["files"]) - goes_on
        self.last_file = facts["files"][-1]
        self.columns.append(columns)

    def rows(self, blocks: KeptBlocks) -> Rows:
        """Return the rows of all blocks."""
        columns = {name: np.concatenate([part[name] for part in self.columns]) for name in self.columns[0]}
        numbers_N = np.arange(self.num_rows)
        return Rows(blocks, np.array(self.starts), columns, list(self.label_sets), numbers_N, self.num_numbers)
