"""The augment stage: write one shard of the blocks."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd_dist.augmentation.augmenter import Augmenter
from kd_dist.augmentation.blocks import (
    Tally,
    agree_on_manifest,
    block_path,
    describe,
    is_good_block,
    manifest_of,
    num_blocks,
    num_kept,
    rows_of_block,
    write_block,
)
from kd_dist.augmentation.sources import sources_of
from kd_dist.config.stages import AugmentStage
from kd_dist.data.prepared_rows import TEXTS, PreparedRows

SECONDS_BETWEEN_LINES = 60


def run(stage: AugmentStage, stage_dir: Path, shard: int) -> None:
    """Write the blocks of one shard that are missing.

    Raises:
        UserError: the teacher's labels are not those of the data.
        RunError: no source of candidates, a file that is not what its option says, or blocks of other settings.
    """
    sources = sources_of(stage)
    rows = source_rows(Path(stage.data.tokens))
    folder = stage_dir / "shards"
    folder.mkdir(exist_ok=True)
    identity = agree_on_manifest(folder, manifest_of(stage, sources, len(rows)))
    name = f"{stage_dir.name}, shard {shard}"
    own = range(shard, num_blocks(len(rows)), stage.resources.shards)
    missing = [block for block in own if not is_good_block(block_path(folder, block), identity)]
    if len(missing) < len(own):
        print(f"{name}: {len(own) - len(missing):,} of {len(own):,} blocks are there", flush=True)
    if missing:
        _write_blocks(Augmenter.of(stage, sources), rows, folder, identity, missing, name)


def _write_blocks(augmenter: "Augmenter", rows: Any, folder: Path, identity: str, blocks: list[int], name: str) -> None:
    tally, started = Tally(), time.monotonic()
    for block in _with_progress(blocks, name):
        own = rows_of_block(block)
        table, found = augmenter.augmented(rows[own], own.start)
        write_block(block_path(folder, block), table, identity, found)
        tally += found
    seconds, written = time.monotonic() - started, tally["rows"] + num_kept(tally)
    print(
        f"{name}: {describe(tally)}; {written:,} rows in {seconds:,.0f} s, {written / seconds:,.0f} a second",
        flush=True,
    )


def _with_progress(blocks: list[int], name: str) -> Iterator[int]:
    started = last = time.monotonic()
    for done, block in enumerate(blocks):
        if done and time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            minutes = (last - started) / done * (len(blocks) - done) / 60
            print(f"{name}: {done:,} of {len(blocks):,} blocks, {minutes:,.0f} minutes left", flush=True)
        yield block


def source_rows(tokens_dir: Path) -> Any:
    """Return the texts and labels of the training rows, as Arrow."""
    rows = PreparedRows(tokens_dir).dataset("train")
    return rows.select_columns([name for name in (*TEXTS, "labels") if name in rows.column_names]).with_format("arrow")
