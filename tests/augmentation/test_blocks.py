"""Every row is in one block, and the tally of blocks is told in words."""

from kd_dist.augmentation import blocks
from kd_dist.runs.blocks import Tally

TALLY = Tally(rows=2, tried=8, equal=3, refused=1, words=9, replaceable=4)


def test_every_row_is_in_one_block():
    for num_rows in (0, 1, blocks.BLOCK_ROWS, blocks.BLOCK_ROWS + 1, 10 * blocks.BLOCK_ROWS):
        rows = list(range(num_rows))
        found = [rows[blocks.rows_of_block(block)] for block in range(blocks.num_blocks(num_rows))]
        assert [row for block in found for row in block] == rows
        assert all(found)


def test_the_tally_in_words():
    assert blocks.num_kept(TALLY) == 4
    assert blocks.describe(TALLY) == (
        "2 rows gave 4 more of 8 tried (3 equal, 1 refused by the teacher); 4 of 9 words had candidates"
    )
