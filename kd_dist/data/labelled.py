"""The labelled stage: files of labelled texts to splits without leaks, tokenized, with a report on them.

The texts are in memory, their tokens are not. Importing this module is cheap: heavy libraries are imported where they
are used.
"""

import functools
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.config.sections.data import LabelledData
from kd_dist.config.stages import LabelledStage
from kd_dist.data.arrow_rows import interruption_as_itself, percentiles, quiet, save_split
from kd_dist.data.blocks import grouped
from kd_dist.data.columns import parse_columns
from kd_dist.data.data_report import Report, summary
from kd_dist.data.discovery import unread_labelled_files
from kd_dist.data.labelled_rows import RawRow
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import (
    SPLITS,
    write_data_report,
    write_encoding,
    write_statistics,
)
from kd_dist.data.preprocessing import Encoding, Preprocessing, read_hint_words, segment_for
from kd_dist.data.splits import load_splits
from kd_dist.data.tokenizers import load_fast_tokenizer, worker_tokenizer
from kd_dist.data.unknown_words import SET_TOKENIZER, count_unknown_words, refuse_unknown_words, total
from kd_dist.files import atomic_path, replaced_folder

ROWS_PER_WORKER = 4_096  # fewer are tokenized in less time than a process takes to start


def run(stage: LabelledStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/tokens, which training reads, and `stage_dir`/texts/train.txt, the training texts.

    Both replace what an earlier run wrote, and appear when they are complete.

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
        output_dir: is replaced (see `PreparedRows`).
        texts_file: gets one text per line, two lines for a pair.

    Raises:
        CorpusError: what `load_splits`, `read_hint_words` and `load_fast_tokenizer` raise.
    """
    started = time.monotonic()
    tokenizer = load_fast_tokenizer(tokenizer_path)
    hint_words = read_hint_words(Path(data.hint_words)) if data.hint_words else {}
    splits, labels, report = load_splits(data)
    report["unread_files"] = list(map(str, unread_labelled_files([*data.train, *data.validation, *data.test])))
    segment = segment_for(tokenizer) if data.segment == "auto" else data.segment
    preprocessing = Preprocessing(
        data.max_length, segment, "text_pair" in parse_columns(data.columns).wanted(), hint_words
    )
    with replaced_folder(output_dir) as (work, output), quiet():
        for split in SPLITS:
            report[split] |= write_split(
                splits[split], split, work, output, tokenizer_path, preprocessing, labels, data.num_workers
            )
        refuse_unknown_words(total(report[split] for split in SPLITS), tokenizer_path, SET_TOKENIZER)
        report["seconds"] = round(time.monotonic() - started, 3)
        statistics = _statistics(data, tokenizer, labels, preprocessing, report)
        write_encoding(output, tokenizer, preprocessing, labels)
        write_statistics(output, statistics)
        write_data_report(output, report)
        _write_texts(splits["train"], texts_file)
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


def _write_texts(rows: Sequence[RawRow], file: Path) -> None:
    """Write one text per line, two lines for a pair."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{text}\n" for row in rows for text in row.key if text is not None)


def write_split(
    rows: Sequence[RawRow],
    split: str,
    work: Path,
    output: Path,
    tokenizer_path: str,
    preprocessing: Preprocessing,
    labels: Labels,
    num_workers: int,
) -> Report:
    """Write a split and its lengths to `output`, and return the part of the report on its tokens.

    Args:
        work: a folder for temporary files.
        num_workers: processes that tokenize; 0: one per available core. The rows do not depend on it.
    """
    import pyarrow.compute as pc

    features = _features(preprocessing, labels, load_fast_tokenizer(tokenizer_path))
    encode = functools.partial(_encode_batch, tokenizer_path=tokenizer_path, preprocessing=preprocessing)
    dataset = _tokenize(rows, split, work, labels, features, encode, num_workers)
    lengths = save_split(dataset, split, output, preprocessing.max_length)
    return {
        "tokens": int(lengths.sum()),
        "token_percentiles": percentiles(np.bincount(lengths, minlength=1)),
        "truncated": pc.sum(dataset.data.column("truncated")).as_py() or 0,
        **count_unknown_words(load_fast_tokenizer(tokenizer_path), dataset.data.column("input_ids")),
    }


def _tokenize(
    rows: Sequence[RawRow],
    split: str,
    work: Path,
    labels: Labels,
    features: Any,
    encode: Callable[[dict[str, list]], dict[str, list]],
    num_workers: int,
) -> Any:
    """Return the tokenized rows as a dataset, memory-mapped from `work`."""
    import datasets

    if not rows:
        return datasets.Dataset.from_dict({name: [] for name in features}, features)
    _write_arrow(rows, labels, features, work / f"{split}.arrow")
    workers = min(num_workers or len(os.sched_getaffinity(0)), math.ceil(len(rows) / ROWS_PER_WORKER))
    with interruption_as_itself():
        return datasets.Dataset.from_file(str(work / f"{split}.arrow")).map(
            encode,
            batched=True,
            features=features,
            num_proc=workers if workers > 1 else None,
            cache_file_name=str(work / f"{split}_rows.arrow"),
            new_fingerprint=split,  # otherwise the function is pickled and hashed for a cache that is not used
            load_from_cache_file=False,
            desc=f"tokenizing {split}",
        )


def _features(preprocessing: Preprocessing, labels: Labels, tokenizer: Any) -> Any:
    import datasets

    label = {
        "single_label": datasets.Value("int64"),
        "multi_label": datasets.List(datasets.Value("float32")),
        "regression": datasets.Value("float32"),
    }
    columns = {"text": datasets.Value("string"), "labels": label[labels.task]}
    if preprocessing.pairs:
        columns["text_pair"] = datasets.Value("string")
    columns["input_ids"] = datasets.List(datasets.Value("int32"))
    if preprocessing.has_token_types(tokenizer):
        columns["token_type_ids"] = datasets.List(datasets.Value("int8"))
    return datasets.Features({**columns, "truncated": datasets.Value("bool")})


def _write_arrow(rows: Sequence[RawRow], labels: Labels, features: Any, path: Path) -> None:
    """Write texts and labels as Arrow, a few thousand rows at a time."""
    import pyarrow as pa

    names = [name for name in ("text", "text_pair", "labels") if name in features]
    schema = pa.schema([features.arrow_schema.field(name) for name in names])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for group in grouped(rows, lambda row: len(row.text) + len(row.text_pair or "")):
            columns = {
                "text": [row.text for row in group],
                "text_pair": [row.text_pair for row in group],
                "labels": [labels.encode(row.labels) for row in group],
            }
            writer.write_batch(pa.record_batch({name: columns[name] for name in names}, schema=schema))


def _encode_batch(batch: dict[str, list], tokenizer_path: str, preprocessing: Preprocessing) -> dict[str, list]:
    encodings = preprocessing.encode(worker_tokenizer(tokenizer_path), batch["text"], batch.get("text_pair"))
    columns = {name: list(values) for name, values in zip(Encoding._fields, zip(*encodings, strict=True), strict=True)}
    return {name: values for name, values in columns.items() if values[0] is not None}
