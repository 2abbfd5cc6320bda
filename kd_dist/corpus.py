"""Text files -> tokenised Arrow, in flat memory, split in `train` and `validation`, and cached.

One pass writes the text as blocks of lines (kd_dist/texts.py), worker processes turn them into rows
(kd_dist/tokenising.py), and a last pass deals the rows out to the splits. What comes out does not depend on the number
of workers. Importing this module is cheap: the heavy libraries are imported where they are used.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.sections import MAX_HELD_OUT_ROWS
from kd_dist.texts import CorpusError, TextStatistics, blocks, grouped
from kd_dist.tokenising import load_fast_tokenizer, token_budget, tokenise_blocks

FORMAT_VERSION = 2  # raise it when the same options and files would give other rows: old caches are then left alone
SPLIT_ROWS = 10_000
TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "merges.txt", "special_tokens_map.json", "added_tokens.json")
TOKENIZER_CLASS_FILES = ("config.json", "*.py")  # the class comes from config.json when tokenizer_config.json is silent


# ---------------------------------------------------------------------------------------------------------- preparation


def prepare(
    *,
    files: list[Path],
    tokenizer_path: str,
    output_dir: Path,
    max_length: int,
    pack: bool,
    text_field: str,
    word_starts: bool,
    validation_fraction: float,
    num_workers: int,
    max_lines: int | None = None,
) -> dict[str, Any]:
    """Write the tokenised corpus to `output_dir`, which must not exist, and return its statistics.

    `train/` and `validation/` are Hugging Face datasets (memory-mapped Arrow) with `input_ids` (list of int32) and, if
    asked, `word_starts` (list of bool); `train_lengths.npy` and `validation_lengths.npy` hold the length of every row,
    `tokenizer/` the tokenizer, `statistics.json` what is returned. Every round(1 / validation_fraction)-th row goes to
    validation (at least one if there are two rows; none when the fraction is 0), or less often where that would be more
    than `MAX_HELD_OUT_ROWS`. `num_workers` processes tokenise (0: one per available core); the result does not depend
    on it. Nothing appears under the final name before it is complete, and nothing is left behind on failure.

    Raises CorpusError for what `read_lines` refuses, a tokenizer that does not load, an existing `output_dir`, a
    `max_length` without room and files without any text; OSError (disk full) passes through.
    """
    started = time.monotonic()
    if output_dir.exists():
        raise CorpusError(f"{output_dir} exists already; remove it or choose another folder")
    tokenizer = load_fast_tokenizer(tokenizer_path)
    token_budget(tokenizer, max_length)  # refuses a bad max_length now, not after an hour of reading
    options = {"max_length": max_length, "pack": pack, "word_starts": word_starts}
    with temporary_sibling(output_dir) as (work, output), quiet():
        counts = TextStatistics()
        write_units(blocks(files, text_field, counts, max_lines), work / "units.arrow")
        rows = _tokenise(work, {"tokenizer_path": tokenizer_path, **options}, num_workers)
        statistics: dict[str, Any] = {"files": [str(file) for file in files], **asdict(counts), **options}
        if not len(rows):
            raise CorpusError(f"{tokenizer_path}: the tokenizer finds no token in {', '.join(map(str, files))}")
        statistics |= write_splits(rows, work, output, max_length, validation_fraction)
        tokenizer.save_pretrained(output / "tokenizer")
        statistics |= {"vocabulary_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        statistics["seconds"] = round(time.monotonic() - started, 3)
        (output / "statistics.json").write_text(json.dumps(statistics, ensure_ascii=False, indent=2), encoding="utf-8")
        os.rename(output, output_dir)
    return statistics


@contextlib.contextmanager
def rebuilt(output_dir: Path) -> Iterator[tuple[Path, Path]]:
    """Two new folders, for work and for output; at the end the output takes the place of `output_dir`.

    On failure `output_dir` is as it was. What interrupted runs left beside it is removed, so that it may have one
    builder at a time. Progress bars are off, as `quiet` says.
    """
    for remains in output_dir.parent.glob(f".{output_dir.name}.tmp-*"):
        shutil.rmtree(remains)
    with temporary_sibling(output_dir) as (work, output), quiet():
        yield work, output
        shutil.rmtree(output_dir, ignore_errors=True)
        os.rename(output, output_dir)


@contextlib.contextmanager
def temporary_sibling(output_dir: Path) -> Iterator[tuple[Path, Path]]:
    """Two new folders beside `output_dir` (so that a rename is atomic), for work and for output.

    Afterwards they are gone whatever happens.
    """
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    # The process id alone is not unique: nodes share the folder, and a container restarts with the same ids.
    temporary = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.tmp-{os.getpid()}-", dir=output_dir.parent))
    work, output = temporary / "work", temporary / "output"
    try:
        work.mkdir()
        output.mkdir()
        yield work, output
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars into log files; no threads inside the tokenizer, whose processes fill the cores already."""
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
    """Write the blocks as Arrow, in a column of that name; a row is a unit: blocks that one call tokenises."""
    import pyarrow as pa

    schema = pa.schema([("blocks", pa.list_(pa.list_(pa.string())))])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for unit in grouped(texts, _size_of_block):
            writer.write_batch(pa.record_batch([pa.array([unit], schema.field(0).type)], schema=schema))


def _size_of_block(block: list[str]) -> int:
    return sum(len(line.encode()) for line in block)


def _tokenise(work: Path, options: dict[str, Any], num_workers: int) -> Any:
    """Tokenise the units of `work`; return the dataset of rows, memory-mapped from `work`."""
    import datasets

    columns = {"input_ids": datasets.List(datasets.Value("int32")), "truncated": datasets.Value("bool")}
    if options["word_starts"]:
        columns["word_starts"] = datasets.List(datasets.Value("bool"))
    units = datasets.Dataset.from_file(str(work / "units.arrow"))
    rows = rows_of_units(units, functools.partial(_tokenise_batch, **options), columns, work, num_workers)
    (work / "units.arrow").unlink()
    return rows


def rows_of_units(
    units: Any, function: Callable[..., dict[str, list]], columns: dict[str, Any], work: Path, num_workers: int
) -> Any:
    """The rows that `function` makes of each unit of a dataset, in order: a dataset, memory-mapped from `work`.

    `num_workers` processes work on it (0: one per available core); the rows do not depend on it.
    """
    import datasets

    with interruption_as_itself():
        return units.map(
            function,
            batched=True,
            batch_size=1,
            num_proc=min(num_workers or len(os.sched_getaffinity(0)), len(units)),
            remove_columns=units.column_names,
            features=datasets.Features(columns),
            cache_file_name=str(work / "rows.arrow"),
            new_fingerprint="rows",  # otherwise the function is pickled and hashed for a cache that is not used
            load_from_cache_file=False,
            desc="tokenising",
        )


@contextlib.contextmanager
def interruption_as_itself() -> Iterator[None]:
    """`Dataset.map`, interrupted, asks its workers for results first, and their time-out hides the interruption."""
    import multiprocess  # type: ignore[import-untyped]

    try:
        yield
    except multiprocess.TimeoutError as error:
        raise (error.__context__ or error) from None


_worker_tokenizer = functools.lru_cache(maxsize=1)(load_fast_tokenizer)


def _tokenise_batch(batch: dict[str, Any], tokenizer_path: str, **options: Any) -> dict[str, list]:
    tokenizer = _worker_tokenizer(tokenizer_path)
    rows = [row for unit in batch["blocks"] for row in tokenise_blocks(unit, tokenizer, **options)]
    columns = ["input_ids", "truncated"] + ["word_starts"] * options["word_starts"]
    return {column: [row[column] for row in rows] for column in columns}


def write_splits(
    rows: Any, work: Path, output: Path, max_length: int, validation_fraction: float | None
) -> dict[str, Any]:
    """Deal the rows out to train and validation; return what the rows add to the statistics.

    Without a fraction, not even of 0, there is no validation: it comes from elsewhere.
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
    """Return n: every n-th row is for validation, never all of them, and at most `MAX_HELD_OUT_ROWS` of them.

    n beyond the last row means none is.
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
    lengths = np.lib.format.open_memmap(
        output / f"{split}_lengths.npy", mode="w+", dtype=np.min_scalar_type(max(max_length, 256)), shape=(size,)
    )
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
    datasets.Dataset.from_file(str(path)).save_to_disk(output / split, **({} if size else {"num_shards": 1}))
    path.unlink()
    return histogram


def _rows_of_split(rows: Any, split: str, every: int) -> Iterator[Any]:
    """Yield Arrow tables; a filter over slices, because a list of row numbers would be as long as the corpus."""
    import pyarrow as pa

    arrow = rows.with_format("arrow")
    for start in range(0, len(rows), SPLIT_ROWS):
        table = arrow[start : start + SPLIT_ROWS]
        for_validation = np.arange(start, start + len(table)) % every == every - 1
        yield table.filter(pa.array(for_validation == (split == "validation")))


def percentiles(histogram: np.ndarray) -> dict[str, int]:
    """Return the row lengths that 5, 25, 50, 75, 95 and 100 % of the rows do not exceed."""
    cumulative = np.cumsum(histogram)
    return {str(p): int(np.searchsorted(cumulative, cumulative[-1] * p / 100)) for p in (5, 25, 50, 75, 95, 100)}


# ---------------------------------------------------------------------------------------------------------------- cache


def fingerprint(*, files: Sequence[Path], tokenizer_path: str, **options: Any) -> str:
    """Return a short name for what `prepare` makes of these files, tokenizer and options.

    Files count with name, size and modification time, wherever they lie; a tokenizer folder with the bytes of its
    tokenizer files, a hub name as such. `num_workers` changes nothing in the result and does not count; an option
    that is None is as if it were not there.
    """
    identities = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    options = {key: value for key, value in options.items() if key != "num_workers" and value is not None}
    parts = [FORMAT_VERSION, identities, _tokenizer_identity(tokenizer_path), options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _tokenizer_identity(tokenizer_path: str) -> str | list[tuple[str, str]]:
    folder = Path(tokenizer_path)
    if not folder.is_dir():
        return tokenizer_path
    files = {file for pattern in TOKENIZER_FILES + TOKENIZER_CLASS_FILES for file in folder.glob(pattern)}
    return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in sorted(files) if file.is_file()]


def cached_prepare(cache_dir: Path, link: Path, **arguments: Any) -> dict[str, Any]:
    """Run `prepare(**arguments)` into `cache_dir/<fingerprint>` unless that exists; point the symbolic `link` at it.

    The link is relative and is replaced atomically. Returns the statistics, with "cached": true when nothing had to
    be built. Raises what `prepare` raises, and CorpusError when `link` is a folder or file of its own.
    """
    if link.exists() and not link.is_symlink():
        raise CorpusError(f"{link} is not a link to a prepared corpus; move it away or choose another place")
    target = cache_dir / fingerprint(**arguments)
    cached = target.exists()
    if not cached:
        _build(target, arguments)
    statistics = json.loads((target / "statistics.json").read_text(encoding="utf-8"))
    _replace_link(link, target)
    return {**statistics, "cached": cached}


def _build(target: Path, arguments: dict[str, Any]) -> None:
    try:
        prepare(output_dir=target, **arguments)
    except OSError as error:
        # Another process built the same corpus in the meantime: its copy is as good.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not (target / "statistics.json").exists():
            raise


def _replace_link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.parent / f".{link.name}.tmp-{secrets.token_hex(4)}"
    temporary.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))
    os.replace(temporary, link)
