"""The labelled stage: files of labelled texts to splits without leaks, tokenized, with a report on them.

Workers read the files into blocks of rows, then tokenize these into blocks of tokens, and a last pass writes the splits
from both. Neither texts nor tokens are in memory, and a try that is cut short leaves its blocks to the next one. The
result does not depend on the number of workers. Importing this module is cheap: heavy libraries are imported where they
are used.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.config.sections.data import LabelledData
from kd_dist.config.stages import LabelledStage
from kd_dist.data.arrow_rows import DatasetFiles, percentiles, quiet
from kd_dist.data.columns import parse_columns
from kd_dist.data.data_report import Report, summary
from kd_dist.data.discovery import unread_labelled_files
from kd_dist.data.exported_splits import write_splits, write_texts
from kd_dist.data.kept_blocks import FOLDER, kept_until_done
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import (
    SPLITS,
    PreparedRows,
    open_lengths,
    write_data_report,
    write_encoding,
    write_statistics,
)
from kd_dist.data.preprocessing import Preprocessing, read_hint_words, segment_for
from kd_dist.data.row_tokens import Recipe, RowTokens, encode_splits
from kd_dist.data.splits import load_splits
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.data.unknown_words import SET_TOKENIZER, refuse_unknown_words, total
from kd_dist.files import replaced_folder


def run(stage: LabelledStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/tokens, which training reads, and `stage_dir`/texts/train.txt, the training texts.

    Both replace what an earlier run wrote, and appear when they are complete. With `data.export_splits` the texts and
    labels of all splits are beside the training texts.

    Raises:
        CorpusError: rows, labels or settings that cannot be used; the message names file and line.
    """
    report = prepare(stage.data, stage.tokenizer.path, stage_dir / "tokens", stage_dir / "texts" / "train.txt")
    print(summary(stage_dir.name, report), flush=True)


def prepare(data: LabelledData, tokenizer_path: str, output_dir: Path, texts_file: Path) -> Report:
    """Write the tokenized splits to `output_dir` and the training texts to `texts_file`, and return the report.

    The columns of the splits are `text`, `text_pair` (of pairs), `labels` (see `Labels.encode`), `input_ids`, and
    `token_type_ids` where the model distinguishes two segments.

    Args:
        data: files and settings.
        tokenizer_path: folder or hub name of the tokenizer.
        output_dir: is replaced (see `PreparedRows`). Blocks of rows are beside it until it is complete.
        texts_file: gets one text per line, two lines for a pair.

    Raises:
        CorpusError: what `load_splits`, `read_hint_words` and `load_fast_tokenizer` raise.
    """
    started = time.monotonic()
    tokenizer = load_fast_tokenizer(tokenizer_path)
    hint_words = read_hint_words(Path(data.hint_words)) if data.hint_words else {}
    segment = segment_for(tokenizer) if data.segment == "auto" else data.segment
    preprocessing = Preprocessing(
        data.max_length, segment, "text_pair" in parse_columns(data.columns).wanted(), hint_words
    )
    with kept_until_done(output_dir.with_name(FOLDER)) as blocks, quiet():
        splits, labels, report = load_splits(data, blocks)
        report["unread_files"] = list(map(str, unread_labelled_files([*data.train, *data.validation, *data.test])))
        found = encode_splits(splits, blocks, Recipe(tokenizer_path, preprocessing, labels), data.num_workers)
        with replaced_folder(output_dir) as (_, output):
            for split in SPLITS:
                report[split] |= write_split(found[split], split, output)
            refuse_unknown_words(total(report[split] for split in SPLITS), tokenizer_path, SET_TOKENIZER)
            report["seconds"] = round(time.monotonic() - started, 3)
            statistics = _statistics(data, tokenizer, labels, preprocessing, report)
            write_encoding(output, tokenizer, preprocessing, labels)
            write_statistics(output, statistics)
            write_data_report(output, report)
            write_texts(splits["train"], texts_file)
            if data.export_splits:
                write_splits(splits, labels, data.label_separator, texts_file.parent)
    return report


def _statistics(
    data: LabelledData, tokenizer: Any, labels: Labels, preprocessing: Preprocessing, report: Report
) -> dict[str, Any]:
    return {
        "vocabulary_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_length": data.max_length,
        "word_starts": False,
        "task": data.task,
        "num_labels": labels.num_labels,
        "pairs": preprocessing.pairs,
        **{f"{split}_rows": report[split]["rows"] for split in SPLITS},
        "truncated_rows": sum(report[split]["truncated"] for split in SPLITS),
        "tokens": sum(report[split]["tokens"] for split in SPLITS),
        "seconds": report["seconds"],
    }


def write_split(found: RowTokens, split: str, output: Path) -> Report:
    """Write a split and its lengths to `output`, and return the part of the report on its tokens."""
    import pyarrow.compute as pc

    max_length = found.recipe.preprocessing.max_length
    lengths = open_lengths(output, split, len(found.rows), max_length)
    histogram, truncated, written = np.zeros(max_length + 1, np.int64), 0, 0
    with DatasetFiles(PreparedRows(output).split_folder(split), found.recipe.features()) as files:
        for table in found.tables():
            files.write(table)
            row_lengths = pc.list_value_length(table.column("input_ids")).to_numpy()
            lengths[written : written + len(table)] = row_lengths
            histogram += np.bincount(row_lengths, minlength=max_length + 1)
            truncated += pc.sum(table.column("truncated")).as_py()
            written += len(table)
    return {
        "tokens": int(histogram @ np.arange(max_length + 1)),
        "token_percentiles": percentiles(histogram),
        "truncated": truncated,
        **found.word_counts(),
    }
