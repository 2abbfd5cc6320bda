"""Any number of shards writes the same rows, and one that was killed goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest
from datasets import load_from_disk

from kd_dist.config.paths import REPOSITORY, python_path
from kd_dist.errors import RunError
from kd_dist.runs import blocks
from tests.augmentation.world import BLOCK, blocks_of, files_of
from tests.stages import run_entry


def test_any_number_of_shards_writes_the_same_rows(world, stage_of, monkeypatch):
    one, four = stage_of("one", mlm_path=str(world.mlm)), stage_of("four", mlm_path=str(world.mlm), shards=4)
    run_entry(one)
    for shard in (2, 0, 3, 1):
        run_entry(four, shard)
    assert len(blocks_of(one)) == -(-load_from_disk(str(world.tokens / "train")).num_rows // BLOCK) == 5
    assert blocks_of(four) == blocks_of(one)
    assert (len(files_of(one)), len(files_of(four))) == (1, 4)


def test_a_changed_number_of_shards_goes_on_with_what_is_there(stage_of, capsys):
    one, changed = stage_of("one"), stage_of("changed", shards=2)
    run_entry(one)
    run_entry(changed, 0)
    stage_of("changed", shards=3)
    capsys.readouterr()
    for shard in range(3):
        run_entry(changed, shard)
    said = capsys.readouterr().out
    assert [f"shard {shard}: 1 of {number} blocks are there" in said for shard, number in enumerate((2, 2, 1))] == [
        True,
        True,
        True,
    ]
    assert blocks_of(changed) == blocks_of(one)


def test_what_is_there_is_kept_and_what_is_damaged_is_written_again(world, stage_of, capsys, monkeypatch):
    monkeypatch.setattr(blocks, "FILE_BYTES", 1)
    stage_dir = stage_of()
    run_entry(stage_dir)
    expected = files_of(stage_dir)
    assert list(expected) == [f"block_{number:08d}.parquet" for number in range(5)]
    folder = stage_dir / "shards"
    (folder / "block_00000001.parquet").write_bytes(expected["block_00000001.parquet"][:1000])
    flipped = bytearray(expected["block_00000002.parquet"])
    flipped[200] ^= 1
    (folder / "block_00000002.parquet").write_bytes(flipped)
    (folder / "block_00000003.parquet").write_bytes(b"")
    kept = folder / "block_00000000.parquet"
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    run_entry(stage_dir)
    assert "2 of 5 blocks are there" in capsys.readouterr().out
    assert files_of(stage_dir) == expected
    assert kept.stat().st_mtime_ns == before
    run_entry(stage_dir)
    assert capsys.readouterr().out == "augment, shard 0: 5 of 5 blocks are there\n"


KILLED = """
import sys, time
from pathlib import Path
from kd_dist.augmentation import blocks
from kd_dist.runs.blocks import Blocks
from tests.stages import run_entry
blocks.BLOCK_ROWS = {block}
write = Blocks.write
def slowly(self, *block):
    time.sleep(0.3)
    write(self, *block)
Blocks.write = slowly
run_entry(Path(sys.argv[1]))
"""


def test_a_shard_that_was_killed_goes_on_where_it_was(stage_of):
    undisturbed, killed = stage_of("undisturbed"), stage_of("killed")
    run_entry(undisturbed)
    environment = os.environ | {"PYTHONPATH": python_path(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(block=BLOCK), str(killed)], env=environment)
    deadline = time.monotonic() + 120
    while not (killed / "shards" / "block_00000001.parquet").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = files_of(killed)
    assert 2 <= len(there) < 5
    (killed / "shards" / ".block_00000004.parquet.tmp").write_bytes(
        b"half of a bl"
    )  # what a kill during a write leaves
    run_entry(killed)
    assert files_of(killed) == files_of(undisturbed)
    assert not list((killed / "shards").glob(".block*"))


def test_blocks_of_other_settings_are_refused(stage_of):
    run_entry(stage_of())
    with pytest.raises(RunError, match=r"blocks of other settings or inputs \(augment.copies, augment.seed\)"):
        run_entry(stage_of(copies=5, seed=1))
