"""Blocks are kept until all is done, and none of other files, or half-written, is taken for a good one."""

from pathlib import Path

import pyarrow as pa
import pytest

from kd_dist.data.kept_blocks import KeptBlocks, identity_of, kept_until_done

TABLE = pa.table({"text": ["今天", "天气"]})


def test_a_block_is_what_was_written_and_of_what_it_was_made_from(tmp_path: Path):
    blocks = KeptBlocks(tmp_path, "rows")
    blocks.write(3, TABLE, identity_of("a", [1]), count=7)
    assert blocks.read(3).column("text").to_pylist() == ["今天", "天气"]
    assert blocks.facts(3)["count"] == 7
    assert blocks.has(3, identity_of("a", [1]))
    assert not blocks.has(3, identity_of("a", [2]))
    assert not blocks.has(4, identity_of("a", [1]))


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.9])
def test_a_block_that_is_cut_or_something_else_is_not_there(kept: float, tmp_path: Path):
    blocks = KeptBlocks(tmp_path, "rows")
    blocks.write(0, TABLE, "identity")
    content = blocks.path(0).read_bytes()
    blocks.path(0).write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert not blocks.has(0, "identity")
    blocks.path(0).write_bytes(b"not arrow at all")
    assert not blocks.has(0, "identity")


def test_blocks_are_kept_on_failure_and_removed_at_the_end(tmp_path: Path):
    folder = tmp_path / "blocks"

    def interrupted(num_blocks: int) -> None:
        with kept_until_done(folder):
            for number in range(num_blocks):
                KeptBlocks(folder, "rows").write(number, TABLE, "identity")
                (folder / ".rows_00000001.arrow.tmp-1-a").touch()  # as a killed writer leaves it
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(1)
    with kept_until_done(folder):
        assert [path.name for path in folder.iterdir()] == ["rows_00000000.arrow"]
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt):
        interrupted(0)
    assert not folder.exists()  # nothing to keep
