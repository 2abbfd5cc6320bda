"""Blocks hold each line once, in order, and are bounded; borders between documents are counted."""

from pathlib import Path

from kd_dist.data import blocks
from kd_dist.data.blocks import TextStatistics
from tests.data.files import read_blocks


def test_duplicates_and_borders_are_counted(tmp_path: Path):
    (tmp_path / "a.txt").write_text("一\n二\n一\n \n\n三\nＡ\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("A\n四\n\n二\n", encoding="utf-8")
    found, statistics = read_blocks(tmp_path / "a.txt", tmp_path / "b.txt")
    assert found == [["一", "二"], ["三", "A"], ["四"]]
    assert statistics == TextStatistics(
        lines_read=11, lines_empty=3, lines_duplicate=3, lines_kept=5, characters=5, documents=3
    )


def test_blocks_are_bounded_but_keep_a_long_line(tmp_path: Path):
    lines = (
        [f"第{number}行" for number in range(300)]
        + ["长" * 10_000 + str(number) for number in range(5)]
        + ["巨" * 50_000]
    )
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    found, statistics = read_blocks(tmp_path / "a.txt")
    assert [len(block) for block in found] == [256, 46, 2, 1, 1]
    assert [line for block in found for line in block] == lines
    assert statistics.documents == 1


def test_reading_ends_after_the_lines_that_were_asked_for(tmp_path: Path):
    (tmp_path / "a.txt").write_text("一\n二\n三\n四\n", encoding="utf-8")
    statistics = TextStatistics()
    files = [tmp_path / "a.txt", tmp_path / "missing.txt"]
    assert list(blocks.blocks(files, "text", statistics, max_lines=3)) == [["一", "二", "三"]]
    assert statistics.lines_read == 3
