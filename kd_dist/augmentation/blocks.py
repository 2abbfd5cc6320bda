"""What a block of augmented rows is made of: block 12 has the rows from 12 x 256 on, in the columns text, text_pair,
labels, row, and copy (0: the original).
"""

from pathlib import Path
from typing import Any

from kd_dist.augmentation.sources import Sources
from kd_dist.config.stages import AugmentStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.runs.blocks import Tally, files_at

FORMAT_VERSION = 3  # raise it when the same settings would give other rows, or other files

BLOCK_ROWS = 256

# The tally of a block says what became of its rows: the number of `rows`, of copies `tried`, of `equal` ones and of
# ones `refused` by the teacher; of `words` that may be replaced, and of `replaceable` ones, which have candidates.


def num_kept(tally: Tally) -> int:
    """Return how many copies were written."""
    return tally["tried"] - tally["equal"] - tally["refused"]


def describe(tally: Tally) -> str:
    """Describe what became of the rows and words."""
    refused = f", {tally['refused']:,} refused by the teacher" if tally["refused"] else ""
    return (
        f"{tally['rows']:,} rows gave {num_kept(tally):,} more of {tally['tried']:,} tried ({tally['equal']:,} equal"
        f"{refused}); {tally['replaceable']:,} of {tally['words']:,} words had candidates"
    )


def manifest_of(stage: AugmentStage, sources: Sources, num_rows: int) -> dict[str, Any]:
    """Return the settings, models and data that the blocks of a stage are made with."""
    return {
        "format_version": FORMAT_VERSION,
        **{f"augment.{name}": value for name, value in stage.augment.model_dump().items()},
        "rows": num_rows,
        "block_rows": BLOCK_ROWS,
        "data": files_at(PreparedRows(Path(stage.data.tokens)).split_folder("train")),
        "teacher": files_at(Path(stage.teacher.path)) if stage.teacher.path and stage.augment.keep_confidence else None,
    } | {name: path and files_at(Path(path)) for name, path in sources._asdict().items()}


def num_blocks(num_rows: int) -> int:
    """Return how many blocks the rows make."""
    return -(-num_rows // BLOCK_ROWS)


def rows_of_block(block: int) -> slice:
    """Return which rows a block is made of."""
    return slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
