"""The augmented stage: tokenize the blocks of all shards."""

import functools
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.augmentation.blocks import describe, num_blocks, num_kept
from kd_dist.config.stages import AugmentedStage
from kd_dist.data.arrow_rows import SPLIT_ROWS, percentiles, quiet, rows_of_units
from kd_dist.data.prepared_rows import (
    TEXTS,
    PreparedRows,
    open_lengths,
    share_held_out,
    write_data_report,
    write_statistics,
)
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.data.unknown_words import count_unknown_words, total
from kd_dist.errors import RunError
from kd_dist.files import read_json, replaced_folder
from kd_dist.runs.blocks import MANIFEST, Blocks, Place, Tally, files_at, identity_of, read


def run(stage: AugmentedStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/tokens from the blocks of all shards, in the format of the data that they were made from.

    The validation and test rows are shared with that data. Copies that equal one of them are removed as leaks.

    Raises:
        RunError: a block that is missing or damaged, or shards that were not made from this data.
    """
    tokens, output_dir, started = PreparedRows(Path(stage.data.tokens)), stage_dir / "tokens", time.monotonic()
    blocks, tally = verified_blocks(Path(stage.data.shards), tokens)
    with replaced_folder(output_dir) as (work, output), quiet():
        share_held_out(tokens, output, output_dir)
        rows = _tokenize(blocks, tokens, work, stage.data.num_workers)
        tally["leaked"] = tally["rows"] + num_kept(tally) - len(rows)
        train = _write_train(rows, tokens, output)
        _write_reports(tokens, output, train, tally, time.monotonic() - started)
    leaked = f", {tally['leaked']:,} removed that are also in validation or test" if tally["leaked"] else ""
    print(
        f"{stage_dir.name}: {len(rows):,} train rows, {train['tokens']:,} tokens; {describe(tally)}{leaked}", flush=True
    )


def verified_blocks(shards: Path, tokens: PreparedRows) -> tuple[list[Place], Tally]:
    """Return where all blocks are, in order, and what became of their rows.

    Raises:
        RunError: a block is missing or damaged, or the shards were made from other data.
    """
    way_out = f"remove COMPLETE and shard_*.COMPLETE in {shards.parent}, and the same run writes what is missing"
    try:
        manifest = read_json(shards / MANIFEST)
    except (OSError, ValueError) as error:
        raise RunError(f"{shards / MANIFEST} cannot be read ({error}); {way_out}") from error
    if manifest["data"] != files_at(tokens.split_folder("train")):
        raise RunError(
            f"{shards} was not made from the rows in {tokens.folder}; remove it and start the same run again"
        )
    blocks = Blocks(shards, identity_of(manifest))
    places = blocks.places()
    missing = [block for block in range(num_blocks(manifest["rows"])) if block not in places]
    problems = [f"{name} is damaged ({error})" for name, error in blocks.damaged().items()]
    problems += [f"block {block} is missing" for block in missing]
    if missing:
        more = f" and {len(problems) - 5:,} more" if len(problems) > 5 else ""
        raise RunError(f"{shards}: {', '.join(problems[:5])}{more}; {way_out}")
    return list(places.values()), blocks.tally()


def _tokenize(blocks: list[Place], tokens: PreparedRows, work: Path, num_workers: int) -> Any:
    """Tokenize the rows of all blocks in `num_workers` processes; return a dataset, memory-mapped from `work`."""
    import datasets

    features = tokens.dataset("train").features
    units = datasets.Dataset.from_dict(
        {"file": [str(place.path) for place in blocks], "group": [place.group for place in blocks]}
    )
    columns = {**features, "truncated": datasets.Value("bool")}
    return rows_of_units(units, functools.partial(_encode_block, tokens=tokens), columns, work, num_workers)


def _encode_block(batch: dict[str, list[Any]], tokens: PreparedRows) -> dict[str, list]:
    (path,), (group,) = batch["file"], batch["group"]
    try:
        table = read(Path(path), [group])
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is damaged ({error}); remove it, COMPLETE and shard_*.COMPLETE of its stage, and run again"
        ) from error
    columns = [table.column(name).to_pylist() for name in TEXTS if name in table.column_names]
    texts, numbers = list(zip(*columns, strict=True)), table.column("copy").to_pylist()
    preprocessing, tokenizer, held_out = _worker_state(tokens)
    kept = [row for row, number in enumerate(numbers) if number == 0 or texts[row] not in held_out]
    rows = table.select([name for name in (*TEXTS, "labels") if name in table.column_names]).take(kept).to_pydict()
    encodings = preprocessing.encode(tokenizer, rows["text"], rows.get("text_pair"))
    fields = {name: [getattr(encoding, name) for encoding in encodings] for name in encodings[0]._fields}
    return rows | {name: values for name, values in fields.items() if values[0] is not None}


@functools.lru_cache(maxsize=1)
def _worker_state(tokens: PreparedRows) -> tuple[Preprocessing, Any, set[tuple[str, ...]]]:
    """Load preprocessing and tokenizer, and the texts of all validation and test rows, once per process."""
    return tokens.preprocessing, load_fast_tokenizer(str(tokens.tokenizer_folder)), tokens.held_out_texts()


def _write_train(rows: Any, tokens: PreparedRows, output: Path) -> dict[str, Any]:
    """Write the training rows and their lengths; return their part of the data report."""
    import pyarrow.compute as pc

    label2id = tokens.label2id
    lengths = open_lengths(output, "train", len(rows), tokens.preprocessing.max_length)
    labels, counts = np.zeros(len(label2id), np.int64), {"tokens": Counter[int](), "characters": Counter[int]()}
    num_truncated, arrow = 0, rows.with_format("arrow")
    tokenizer, words = load_fast_tokenizer(str(tokens.tokenizer_folder)), []
    for start in range(0, len(rows), SPLIT_ROWS):
        table = arrow[start : start + SPLIT_ROWS]
        lengths[start : start + len(table)] = pc.list_value_length(table.column("input_ids")).to_numpy()
        counts["tokens"].update(lengths[start : start + len(table)].tolist())
        words.append(count_unknown_words(tokenizer, table.column("input_ids")))
        texts = [table.column(name) for name in TEXTS if name in table.column_names]
        counts["characters"].update(sum(pc.utf8_length(text).to_numpy() for text in texts).tolist())
        labels += _label_counts(table.column("labels"), len(label2id))
        num_truncated += pc.sum(table.column("truncated")).as_py()
    rows.remove_columns("truncated").save_to_disk(PreparedRows(output).split_folder("train"))
    report = {"rows": len(rows), "labels": {name: int(labels[index]) for name, index in label2id.items()}}
    for name, found in counts.items():
        report[name] = sum(length * count for length, count in found.items())
        report[f"{name.removesuffix('s')}_percentiles"] = percentiles(np.bincount(list(found), list(found.values())))
    return report | {"truncated": num_truncated} | total(words)


def _label_counts(column: Any, num_labels: int) -> np.ndarray:
    """Return (num_labels) how many rows have each label; a row counts for each of its labels."""
    if not num_labels:
        return np.zeros(0, np.int64)
    labels = np.array(column.to_pylist())
    return (labels > 0).sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=num_labels)


def _write_reports(tokens: PreparedRows, output: Path, train: dict[str, Any], tally: Tally, seconds: float) -> None:
    """Write statistics and report, updated for the new training rows."""
    statistics, report = dict(tokens.statistics), tokens.data_report
    for ours, theirs in {"train_rows": "rows", "tokens": "tokens", "truncated_rows": "truncated"}.items():
        statistics[ours] += train[theirs] - report["train"][theirs]
    most, least = max(train["labels"].values(), default=0), min(train["labels"].values(), default=0)
    shares = {
        "largest_share": round(most / train["rows"], 4),
        "largest_to_smallest": round(most / least, 2) if least else None,
    }
    new = {"augmentation": dict(tally), "seconds": round(seconds, 3)}
    write_statistics(output, statistics | new)
    write_data_report(output, report | {"train": report["train"] | train} | shares | new)
