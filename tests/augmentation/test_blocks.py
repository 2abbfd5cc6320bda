"""Blocks carry their identity and their tally, and damage anywhere in them is noticed."""

from pathlib import Path

import pyarrow as pa
import pytest

from kd_dist.augmentation import blocks
from kd_dist.augmentation.blocks import Tally
from kd_dist.errors import RunError

TALLY = Tally(rows=2, tried=8, equal=3, refused=1, words=9, replaceable=4)


@pytest.fixture
def block(tmp_path: Path) -> Path:
    path = blocks.block_path(tmp_path, 3)
    blocks.write_block(path, pa.table({"text": [f"text {n}" * 20 for n in range(100)]}), "identity", TALLY)
    return path


def test_a_block_gives_back_its_rows_and_its_tally(block: Path):
    assert block.name == "block_00000003.parquet"
    assert blocks.read_block(block)["text"].to_pylist() == [f"text {n}" * 20 for n in range(100)]
    assert blocks.read_tally(block, "identity") == TALLY
    assert blocks.is_good_block(block, "identity")
    with pytest.raises(ValueError, match="written with other settings"):
        blocks.read_tally(block, "another")
    assert not blocks.is_good_block(block, "another")
    assert not blocks.is_good_block(block.with_name("missing.parquet"), "identity")


@pytest.mark.parametrize("position", [10, 200, -10])
def test_a_byte_that_changed_is_noticed(position: int, block: Path):
    content = bytearray(block.read_bytes())
    content[position] ^= 1
    block.write_bytes(content)
    assert not blocks.is_good_block(block, "identity")


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


def test_shards_agree_on_a_manifest(tmp_path: Path):
    manifest = {"settings": {"copies": 4, "seed": 1}, "rows": 10}
    identity = blocks.agree_on_manifest(tmp_path, manifest)
    assert blocks.agree_on_manifest(tmp_path, manifest) == identity == blocks.identity_of(manifest)
    other = {"settings": {"copies": 5, "seed": 1}, "rows": 11}
    assert blocks.identity_of(other) != identity
    with pytest.raises(
        RunError, match=r"blocks of other settings or inputs \(rows, augment.copies\); remove the folder"
    ):
        blocks.agree_on_manifest(tmp_path, other)


def test_files_are_known_by_name_size_and_time(tmp_path: Path):
    (tmp_path / "b").write_text("12345")
    (tmp_path / "a").touch()
    (tmp_path / "folder").mkdir()
    found = blocks.files_at(tmp_path)
    assert [row[:2] for row in found] == [["a", 0], ["b", 5]]
    assert blocks.files_at(tmp_path / "b") == [found[1]]
    assert blocks.files_at(Path("google-bert/bert-base-chinese")) == [["google-bert/bert-base-chinese"]]
