"""Blocks are there whole or not at all, in files of a size that does not depend on kills, and damage is noticed."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kd_dist.errors import RunError
from kd_dist.runs import blocks
from kd_dist.runs.blocks import Blocks, Tally

OWN = range(1, 21, 2)


def table_of(block: int) -> Any:
    return pa.table({"text": [f"block {block}, row {row}" * 20 for row in range(100)]})


def make(numbers: Iterable[int]) -> Iterator[tuple[Any, Tally]]:
    return ((table_of(number), Tally(rows=100, number=number)) for number in numbers)


def failing(after: int) -> blocks.Maker:
    """Make a few blocks, and fail."""

    def made(numbers: Iterable[int]) -> Iterator[tuple[Any, Tally]]:
        for done, each in enumerate(make(numbers)):
            if done == after:
                raise OSError("no room")
            yield each

    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blocks:
    """Blocks of which about three fill a file."""
    (tmp_path / "size").mkdir()
    sample = Blocks.agreed(tmp_path / "size", {"seed": 1})
    sample.write(1, *next(make([1])))
    size = (tmp_path / "size" / "block_00000001.parquet").stat().st_size
    monkeypatch.setattr(blocks, "FILE_BYTES", int(2.5 * size))
    (tmp_path / "blocks").mkdir()
    return Blocks.agreed(tmp_path / "blocks", {"seed": 1})


def test_blocks_are_joined_to_files_of_a_size_and_found_again(found: Blocks):
    assert found.fill(OWN, make, "shard 1") == Tally(rows=1000, number=sum(OWN))
    assert sorted(contents(found.folder)) == [
        *(f"block_{number:08d}.parquet" for number in (1, 7, 13, 19)),
        "manifest.json",
    ]
    places = found.places()
    assert list(places) == list(OWN)
    assert all(blocks.read(path, [group]) == table_of(number) for number, (path, group) in places.items())
    assert pa.concat_tables(found.tables([3, 5, 19])) == pa.concat_tables(map(table_of, (3, 5, 19)))
    assert found.tally() == Tally(rows=1000, number=sum(OWN))


@pytest.mark.parametrize("after", range(11))
def test_what_is_gone_on_with_ends_as_if_nothing_had_happened(after: int, found: Blocks, tmp_path: Path, capsys):
    (tmp_path / "undisturbed").mkdir()
    undisturbed = Blocks.agreed(tmp_path / "undisturbed", {"seed": 1})
    undisturbed.fill(OWN, make, "shard 1")
    if after < len(OWN):
        with pytest.raises(OSError, match="no room"):
            found.fill(OWN, failing(after), "shard 1")
    else:
        found.fill(OWN, make, "shard 1")
    (found.folder / ".block_00000001.parquet.tmp-1-ab").write_bytes(b"half of a bl")
    capsys.readouterr()
    assert found.fill(OWN, make, "shard 1")["rows"] == 100 * (len(OWN) - after)
    assert capsys.readouterr().out == (f"shard 1: {after} of 10 blocks are there\n" if after else "")
    assert contents(found.folder) == contents(undisturbed.folder)


def test_blocks_that_a_kill_left_beside_their_file_are_removed(found: Blocks):
    found.fill(OWN, make, "shard 1")
    expected = contents(found.folder)
    found.write(3, *next(make([3])))
    found.fill(OWN, make, "shard 1")
    assert contents(found.folder) == expected


def test_no_change_of_a_byte_changes_rows_unnoticed(found: Blocks):
    path, table = found.folder / "block_00000001.parquet", table_of(1)
    found.write(1, table, Tally(rows=100))
    content = path.read_bytes()
    for position in range(0, content.index(b"ARROW:schema")):  # the rows, and what the end of the file says of them
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with contextlib.suppress(OSError, ValueError):
            assert blocks.read(path, [0]).column(0) == table["text"], position


@pytest.mark.parametrize("place", [b"\x28\xb5\x2f\xfd", b"kd_dist", b'"rows"'], ids=["rows", "key", "tally"])
def test_a_byte_that_changed_is_noticed_and_its_blocks_are_written_again(place: bytes, found: Blocks, capsys):
    found.fill(OWN, make, "shard 1")
    expected = contents(found.folder)
    content = bytearray(expected["block_00000007.parquet"])
    content[content.index(place) + 5] ^= 1
    (found.folder / "block_00000007.parquet").write_bytes(content)
    capsys.readouterr()
    assert found.fill(OWN, make, "shard 1") == Tally(rows=300, number=7 + 9 + 11)
    assert capsys.readouterr().out == "shard 1: 7 of 10 blocks are there\n"
    assert contents(found.folder) == expected


def test_another_number_of_shards_goes_on_with_the_same_blocks(found: Blocks):
    found.fill(range(0, 20, 2), make, "shard 0")
    for shard in range(3):
        found.fill(range(shard, 20, 3), make, f"shard {shard}")
    places = found.places()
    assert list(places) == list(range(20))
    assert all(blocks.read(path, [group]) == table_of(number) for number, (path, group) in places.items())


def test_files_are_removed_once_none_of_their_blocks_is_wanted(found: Blocks):
    found.fill(OWN, make, "shard 1")
    found.discard({1, 3, 5, 7})
    assert list(found.places()) == list(OWN)[3:]


def test_a_file_that_cannot_be_read_is_named(found: Blocks):
    found.fill(OWN, make, "shard 1")
    (found.folder / "block_00000001.parquet").write_bytes(b"PAR1 and no more")
    assert list(found.places()) == list(OWN)[3:]
    assert list(found.damaged()) == ["block_00000001.parquet"]
    others = Blocks(found.folder, "another")
    assert not others.places()
    assert others.damaged()["block_00000007.parquet"] == "written with other settings"


def test_shards_agree_on_a_manifest(tmp_path: Path):
    manifest = {"augment.copies": 4, "seed": 1, "rows": 10}
    agreed = Blocks.agreed(tmp_path, manifest)
    assert Blocks.agreed(tmp_path, manifest) == agreed
    assert agreed.identity == blocks.identity_of(manifest) != blocks.identity_of(manifest | {"seed": 2})
    with pytest.raises(
        RunError, match=r"blocks of other settings or inputs \(augment.copies, rows, seed\); remove the folder"
    ):
        Blocks.agreed(tmp_path, {"augment.copies": 5, "rows": 11})


def test_files_are_known_by_name_size_and_time(tmp_path: Path):
    (tmp_path / "b").write_text("12345")
    (tmp_path / "a").touch()
    (tmp_path / "folder").mkdir()
    found = blocks.files_at(tmp_path)
    assert [row[:2] for row in found] == [["a", 0], ["b", 5]]
    assert blocks.files_at(tmp_path / "b") == [found[1]]
    assert blocks.files_at(Path("google-bert/bert-base-chinese")) == [["google-bert/bert-base-chinese"]]
