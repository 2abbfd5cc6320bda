"""Text files to tokenised, memory-mapped Arrow in flat memory, split in `train` and `validation`.

One pass writes the text as blocks of lines, worker processes turn them into rows, and a last pass deals the rows out to
the splits. What comes out does not depend on the number of workers.
"""

import functools
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kd_dist.data.arrow_rows import quiet, rows_of_units, write_splits, write_units
from kd_dist.data.blocks import TextStatistics, blocks
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.data.tokenizing import token_budget, tokenise_blocks
from kd_dist.data.unknown_words import count_unknown_words, refuse_unknown_words
from kd_dist.errors import CorpusError
from kd_dist.files import temporary_folder, write_json


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
    with temporary_folder(output_dir) as work, quiet():
        output = work / "output"
        output.mkdir()
        counts = TextStatistics()
        write_units(blocks(files, text_field, counts, max_lines), work / "units.arrow")
        rows = _tokenise(work, {"tokenizer_path": tokenizer_path, **options}, num_workers)
        statistics: dict[str, Any] = {"files": [str(file) for file in files], **asdict(counts), **options}
        if not len(rows):
            raise CorpusError(f"{tokenizer_path}: the tokenizer finds no token in {', '.join(map(str, files))}")
        statistics |= count_unknown_words(tokenizer, rows.data.column("input_ids"))
        refuse_unknown_words(statistics, tokenizer_path)
        statistics |= write_splits(rows, work, output, max_length, validation_fraction)
        tokenizer.save_pretrained(output / "tokenizer")
        statistics |= {"vocabulary_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        statistics["seconds"] = round(time.monotonic() - started, 3)
        write_json(output / "statistics.json", statistics)
        os.rename(output, output_dir)
    return statistics


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


_worker_tokenizer = functools.lru_cache(maxsize=1)(load_fast_tokenizer)


def _tokenise_batch(batch: dict[str, Any], tokenizer_path: str, **options: Any) -> dict[str, list]:
    tokenizer = _worker_tokenizer(tokenizer_path)
    rows = [row for unit in batch["blocks"] for row in tokenise_blocks(unit, tokenizer, **options)]
    columns = ["input_ids", "truncated"] + ["word_starts"] * options["word_starts"]
    return {column: [row[column] for row in rows] for column in columns}
