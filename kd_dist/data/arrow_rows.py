"""Turn units of text into rows of tokens and those into splits, as memory-mapped Arrow, in parallel."""

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from kd_dist.config.sections.data import MAX_HELD_OUT_ROWS
from kd_dist.data.blocks import grouped
from kd_dist.data.prepared_rows import PreparedRows, open_lengths
from kd_dist.files import read_json, write_json

SPLIT_ROWS = 10_000

BATCH_ROWS = 1_000  # of a record batch, as `datasets` writes them

MAX_FILE_BYTES = 256 * 1024 * 1024

STATE = "state.json"  # of a dataset: names its files


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Show no progress bars in log files, and start no threads in the tokenizer, whose processes use all cores."""
    import datasets

    bars_were_off = datasets.are_progress_bars_disabled()
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not bars_were_off:
            datasets.enable_progress_bars()
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def write_units(texts: Iterable[list[str]], path: Path) -> None:
    """Write blocks as an Arrow column of that name. A row of it is a unit: the blocks that one call tokenizes."""
    import pyarrow as pa

    schema = table_of_units([]).schema
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for unit in grouped(texts, size_of_block):
            writer.write_table(table_of_units(unit))


def table_of_units(texts: Iterable[list[str]]) -> Any:
    """Return blocks as an Arrow column of that name, a unit in each row."""
    import pyarrow as pa

    units = list(grouped(texts, size_of_block))
    return pa.table({"blocks": pa.array(units, pa.list_(pa.list_(pa.string())))})


def size_of_block(block: list[str]) -> int:
    """Return the bytes of a block of lines."""
    return sum(len(line.encode()) for line in block)


def rows_of_units(
    units: Any,
    function: Callable[..., dict[str, list]],
    columns: dict[str, Any],
    work: Path,
    num_workers: int,
    batch_size: int = 1,
) -> Any:
    """Apply a function to each unit of a dataset and return the rows, in order, memory-mapped from `work`.

    Args:
        function: makes any number of rows from a unit, as lists by column.
        columns: the features of the rows.
        num_workers: processes; 0: one per available core. The rows do not depend on it.
        batch_size: units that the function gets at a time.
    """
    import datasets

    with interruption_as_itself():
        return units.map(
            function,
            batched=True,
            batch_size=batch_size,
            num_proc=min(num_workers or len(os.sched_getaffinity(0)), math.ceil(len(units) / batch_size)),
            remove_columns=units.column_names,
            features=datasets.Features(columns),
            cache_file_name=str(work / "rows.arrow"),
            new_fingerprint="rows",  # otherwise the function is pickled and hashed for a cache that is not used
            load_from_cache_file=False,
            desc="tokenizing",
        )


@contextlib.contextmanager
def interruption_as_itself() -> Iterator[None]:
    """Raise an interruption of `Dataset.map` as itself, not as the time-out of the workers that hides it."""
    import multiprocess  # type: ignore[import-untyped]

    try:
        yield
    except multiprocess.TimeoutError as error:
        raise (error.__context__ or error) from None


def save_split(rows: Any, split: str, output: Path, max_length: int) -> np.ndarray:
    """Write the rows of a split, and their lengths, to a folder of prepared rows; return (N) the lengths."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(rows.data.column("input_ids")).to_numpy()
    open_lengths(output, split, len(lengths), max_length)[:] = lengths
    kept = rows.remove_columns("truncated")
    kept.save_to_disk(PreparedRows(output).split_folder(split), num_shards=None if len(rows) else 1)
    return lengths


class DatasetFiles:
    """Write a dataset to a folder, as `Dataset.save_to_disk` does, from tables that are never in memory together.

    Args:
        folder: is created.
        features: the columns; others of the tables are left out.
    """

    def __init__(self, folder: Path, features: Any) -> None:
        self._folder, self._schema = folder, features.arrow_schema
        self._features = features
        self._parts: list[Path] = []
        self._size = MAX_FILE_BYTES
        self._writer: Any = None

    def __enter__(self) -> Self:
        import datasets

        empty = datasets.Dataset.from_dict({name: [] for name in self._features}, self._features)
        empty.save_to_disk(self._folder, num_shards=1)
        return self

    def write(self, table: Any) -> None:
        """Append rows."""
        table = table.select(self._schema.names).cast(self._schema)
        if self._size >= MAX_FILE_BYTES:
            self._next_file()
        self._writer.write_table(table, max_chunksize=BATCH_ROWS)
        self._size += table.nbytes

    def _next_file(self) -> None:
        import pyarrow as pa

        if self._writer is not None:
            self._writer.close()
        self._parts.append(self._folder / f"part-{len(self._parts):05d}.arrow")
        self._writer, self._size = pa.ipc.new_stream(str(self._parts[-1]), self._schema), 0

    def __exit__(self, kind: Any, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.close()
        if kind is None:
            (self._folder / "data-00000-of-00001.arrow").unlink()  # that of no rows
            names = [f"data-{number:05d}-of-{len(self._parts):05d}.arrow" for number in range(len(self._parts))]
            for part, name in zip(self._parts, names, strict=True):
                os.replace(part, self._folder / name)
            state = read_json(self._folder / STATE)
            write_json(self._folder / STATE, state | {"_data_files": [{"filename": name} for name in names]})


def write_splits(
    rows: Any, work: Path, output: Path, max_length: int, validation_fraction: float | None
) -> dict[str, Any]:
    """Split the rows into train and validation, and return the statistics of the rows.

    Args:
        validation_fraction: None writes only train, for data whose validation rows come from elsewhere.
    """
    import pyarrow.compute as pc

    every = _validation_period(len(rows), validation_fraction or 0)
    splits = ("train",) if validation_fraction is None else ("train", "validation")
    histograms = {split: _write_split(rows, split, work, output, max_length, every) for split in splits}
    histogram = sum(histograms.values(), np.zeros(max_length + 1, dtype=np.int64))
    return {
        "rows": len(rows),
        **{f"{split}_rows": int(found.sum()) for split, found in histograms.items()},
        "truncated_rows": pc.sum(rows.data.column("truncated")).as_py(),
        "tokens": int(histogram @ np.arange(max_length + 1)),
        "length_percentiles": percentiles(histogram),
    }


def _validation_period(num_rows: int, validation_fraction: float) -> int:
    """Return n, where every n-th row is for validation: never all rows, and at most `MAX_HELD_OUT_ROWS`.

    An n beyond the last row leaves none for validation.
    """
    if not validation_fraction or num_rows < 2:
        return num_rows + 1
    return min(max(2, round(1 / validation_fraction), num_rows // (MAX_HELD_OUT_ROWS + 1) + 1), num_rows)


def _write_split(rows: Any, split: str, work: Path, output: Path, max_length: int, every: int) -> np.ndarray:
    """Write the rows of one split and their lengths; return how many rows have each length, 0 to `max_length`."""
    import datasets
    import pyarrow as pa
    import pyarrow.compute as pc

    num_validation = len(rows) // every
    size = num_validation if split == "validation" else len(rows) - num_validation
    lengths = open_lengths(output, split, size, max_length)
    schema = rows.features.arrow_schema
    schema = schema.remove(schema.get_field_index("truncated"))
    histogram = np.zeros(max_length + 1, dtype=np.int64)
    path, written = work / f"{split}.arrow", 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for table in _rows_of_split(rows, split, every):
            writer.write_table(table.select(schema.names))
            row_lengths = pc.list_value_length(table.column("input_ids")).to_numpy()
            lengths[written : written + len(table)] = row_lengths
            histogram += np.bincount(row_lengths, minlength=max_length + 1)
            written += len(table)
    datasets.Dataset.from_file(str(path)).save_to_disk(
        PreparedRows(output).split_folder(split), **({} if size else {"num_shards": 1})
    )
    path.unlink()
    return histogram


def _rows_of_split(rows: Any, split: str, every: int) -> Iterator[Any]:
    """Yield Arrow tables, filtered slice by slice: a list of row numbers would be as long as the corpus."""
    import pyarrow as pa

    arrow = rows.with_format("arrow")
    for start in range(0, len(rows), SPLIT_ROWS):
        table = arrow[start : start + SPLIT_ROWS]
        for_validation = np.arange(start, start + len(table)) % every == every - 1
        yield table.filter(pa.array(for_validation == (split == "validation")))


def percentiles(histogram: np.ndarray) -> dict[str, int]:
    """Return the 5th, 25th, 50th, 75th, 95th and 100th percentile of lengths, given how many rows have each."""
    cumulative = np.cumsum(histogram)
    return {str(p): int(np.searchsorted(cumulative, cumulative[-1] * p / 100)) for p in (5, 25, 50, 75, 95, 100)}
