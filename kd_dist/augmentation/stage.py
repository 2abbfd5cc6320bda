"""The augment stage: write one shard of the blocks."""

import functools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kd_dist.augmentation.augmenter import Augmenter
from kd_dist.augmentation.blocks import describe, manifest_of, num_blocks, num_kept, rows_of_block
from kd_dist.augmentation.sources import Sources, sources_of
from kd_dist.config.stages import AugmentStage
from kd_dist.data.prepared_rows import TEXTS, PreparedRows
from kd_dist.runs.blocks import Blocks, Tally


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
    blocks = Blocks.agreed(folder, manifest_of(stage, sources, len(rows)))
    name = f"{stage_dir.name}, shard {shard}"
    own = range(shard, num_blocks(len(rows)), stage.resources.shards)
    started = time.monotonic()
    tally = blocks.fill(own, functools.partial(_augmented, stage, sources, rows), name)
    if tally:
        seconds, written = time.monotonic() - started, tally["rows"] + num_kept(tally)
        print(
            f"{name}: {describe(tally)}; {written:,} rows in {seconds:,.0f} s, {written / seconds:,.0f} a second",
            flush=True,
        )


def _augmented(stage: AugmentStage, sources: Sources, rows: Any, blocks: Iterable[int]) -> Iterator[tuple[Any, Tally]]:
    augmenter = Augmenter.of(stage, sources)
    for block in blocks:
        own = rows_of_block(block)
        yield augmenter.augmented(rows[own], own.start)


def source_rows(tokens_dir: Path) -> Any:
    """Return the texts and labels of the training rows, as Arrow."""
    rows = PreparedRows(tokens_dir).dataset("train")
    return rows.select_columns([name for name in (*TEXTS, "labels") if name in rows.column_names]).with_format("arrow")
