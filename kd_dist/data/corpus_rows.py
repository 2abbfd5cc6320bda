"""Tokenize text files to memory-mapped Arrow in constant memory, split into `train` and `validation`.

One process reads the text into parts on disk while others turn these into rows, and a last pass writes the rows to the
splits. A part tells how far the files are read, so that a try that is cut short is gone on with. The result does not
depend on the number of workers.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd_dist.data.arrow_rows import quiet, write_splits
from kd_dist.data.corpus_parts import Part, Parts
from kd_dist.data.kept_blocks import FOLDER, KeptBlocks, kept_until_done
from kd_dist.data.prepared_rows import write_statistics, write_tokenizer
from kd_dist.data.preprocessing import single_types
from kd_dist.data.tokenizers import load_fast_tokenizer, worker_tokenizer
from kd_dist.data.tokenizing import token_budget, tokenize_blocks
from kd_dist.data.unknown_words import SET_TOKENIZER, count_unknown_words, refuse_unknown_words
from kd_dist.data.workers import in_order
from kd_dist.errors import CorpusError
from kd_dist.files import temporary_folder


def prepare(
    *,
    files: list[Path],
    tokenizer_path: str,
    output_dir: Path,
    scratch: Path | None = None,
    kept: Path | None = None,
    identity: str = "",
    max_length: int,
    pack: bool,
    text_field: str,
    word_starts: bool,
    validation_fraction: float,
    num_workers: int,
    max_lines: int | None = None,
) -> dict[str, Any]:
    """Write a tokenized corpus to `output_dir` (see `PreparedRows`), and return its statistics.

    The folder appears when it is complete. On failure nothing is left behind but what was to be kept.

    Args:
        output_dir: must not exist.
        scratch: a path on the same disk, beside which scratch files are written; None: beside `output_dir`.
        kept: a folder where a try that is cut short leaves its parts to the next one; None: nowhere.
        identity: of the files, the tokenizer and the options, where parts are kept.
        max_length: tokens of a row, special tokens included.
        pack: fill rows with the sentences of a document; otherwise a line is a row, truncated.
        text_field: the column of the text in files that have columns.
        word_starts: add the column `word_starts` (list of bool), the tokens that begin a jieba word.
        validation_fraction: every round(1 / validation_fraction)-th row is for validation: at least one of two rows,
            none if the fraction is 0, and at most `MAX_HELD_OUT_ROWS`.
        num_workers: processes that tokenize; 0: one per available core. The rows do not depend on it.
        max_lines: stop reading after this many lines.

    Raises:
        CorpusError: what `read_lines` raises, a tokenizer that does not load, an existing `output_dir`, a `max_length`
            without room for a token, and files without text.
        OSError: the disk is full.
    """
    started = time.monotonic()
    if output_dir.exists():
        raise CorpusError(f"{output_dir} exists already; remove it or choose another folder")
    tokenizer = load_fast_tokenizer(tokenizer_path)
    token_budget(tokenizer, max_length)  # refuse a bad max_length before an hour of reading
    options = {"max_length": max_length, "pack": pack, "word_starts": word_starts}
    with temporary_folder(scratch or output_dir) as work, kept_until_done(kept or work / FOLDER) as folder, quiet():
        output = work / "output"
        output.mkdir()
        parts = Parts(KeptBlocks(folder, "texts"), identity, files, text_field, max_lines)
        tokenize = _Tokenize(KeptBlocks(folder, "rows"), tokenizer_path, options)
        rows = _as_dataset(in_order(tokenize, parts.read(), num_workers))
        counts = parts.reading.statistics
        statistics: dict[str, Any] = {"files": [str(file) for file in files], **asdict(counts), **options}
        statistics |= _checked_words(rows, tokenizer, tokenizer_path, files)
        statistics |= write_splits(rows, work, output, max_length, validation_fraction)
        _finish(output, statistics, tokenizer, time.monotonic() - started)
        os.rename(output, output_dir)
    return statistics


def _finish(output: Path, statistics: dict[str, Any], tokenizer: Any, seconds: float) -> None:
    """Write the tokenizer, and the statistics with what is known at the end."""
    write_tokenizer(output, tokenizer)
    statistics |= {"vocabulary_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    statistics["seconds"] = round(seconds, 3)
    write_statistics(output, statistics)


def _checked_words(rows: Any, tokenizer: Any, tokenizer_path: str, files: list[Path]) -> dict[str, Any]:
    """Return the counts of unknown words.

    Raises:
        CorpusError: there are no rows, or the tokenizer does not know the words.
    """
    if not len(rows):
        raise CorpusError(f"{tokenizer_path}: the tokenizer finds no token in {', '.join(map(str, files))}")
    counts = count_unknown_words(tokenizer, rows.data.column("input_ids"))
    refuse_unknown_words(
        counts, tokenizer_path, f"{SET_TOKENIZER}, or raise tokenizer.vocabulary_size if it was trained here"
    )
    return counts


@dataclass(frozen=True)
class _Tokenize:
    """Tokenize parts, in a worker."""

    blocks: KeptBlocks
    tokenizer_path: str
    options: dict[str, Any]

    def __call__(self, part: Part) -> Path:
        import pyarrow as pa

        if not self.blocks.has(part.number, part.identity):
            schema = self._features().arrow_schema
            units = part.blocks.read(part.number).column("blocks")
            tables = [pa.table(self._columns(unit.as_py()), schema) for unit in units]
            self.blocks.write(part.number, pa.concat_tables([schema.empty_table(), *tables]), part.identity)
        return self.blocks.path(part.number)

    def _features(self) -> Any:
        import datasets

        columns = {"input_ids": datasets.List(datasets.Value("int32")), "truncated": datasets.Value("bool")}
        if any(single_types(worker_tokenizer(self.tokenizer_path))):
            columns["token_type_ids"] = datasets.List(datasets.Value("int8"))
        if self.options["word_starts"]:
            columns["word_starts"] = datasets.List(datasets.Value("bool"))
        return datasets.Features(columns)

    def _columns(self, unit: list[list[str]]) -> dict[str, list]:
        rows = tokenize_blocks(unit, worker_tokenizer(self.tokenizer_path), **self.options)
        return {name: [row[name] for row in rows] for name in self._features()}


def _as_dataset(files: Iterable[Path]) -> Any:
    """Return the rows in files as one dataset, memory-mapped."""
    import datasets

    return datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in files])
