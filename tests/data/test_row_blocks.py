"""Rows are the same in blocks of any size, and their texts are not in memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from kd_dist.config.sections.data import LabelledData
from kd_dist.data import row_blocks
from kd_dist.data.labelled_rows import BadRows
from kd_dist.data.row_blocks import Rows, read_rows
from kd_dist.data.splits import load_splits
from kd_dist.errors import CorpusError
from tests.data.files import write, write_lines
from tests.data.labelled_files import loaded, numbered

BOUND_MB = 18  # for 36 MB more of texts


def read(folder: Path, file: Path, bad_rows: BadRows) -> Rows:
    data = LabelledData(train=[str(file)], num_workers=1, bad_rows="skip" if bad_rows.skip else "error")
    return read_rows(data, "train", folder, bad_rows)[0]


def many_files(folder: Path) -> list[str]:
    """Files with duplicates, labels that are alike, bad rows of several kinds, and a header in one of them."""
    lines = [
        *numbered("x", 25),
        *[("X ", "x 3")] * 9,
        ("", "y 1"),
        *numbered("y", 20),
        ("y", " "),
        ("z", "y 2", "more"),
    ]
    write_lines(folder / "a.tsv", lines)
    write_lines(folder / "b.tsv", [("label", "text"), *numbered("z", 30), ("x",), ("label", "text")])
    for name in ("x", "y", "unsup"):
        for number in range(7):
            write(folder / "tree" / name / f"{number}.txt", f"{name}\n第{number}个")
    return [str(folder / name) for name in ("a.tsv", "b.tsv", "tree")]


@pytest.mark.parametrize("size", [1, 7, 50])
def test_rows_and_report_are_the_same_in_blocks_of_any_size(size: int, tmp_path: Path, monkeypatch):
    data = LabelledData(train=many_files(tmp_path), bad_rows="skip", max_rows=60, num_workers=1)
    whole = loaded(data)
    monkeypatch.setattr(row_blocks, "MAX_BLOCK_ROWS", size)
    parts = loaded(data)
    assert parts == whole
    assert list(parts[2]["train"]["skipped"]) == list(whole[2]["train"]["skipped"])  # in the order of the files
    assert (whole[2]["duplicates_in_train"] > 0, len(whole[2]["alike_labels"])) == (True, 1)


def test_the_first_bad_row_is_named_although_a_later_file_cannot_be_read(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(row_blocks, "MAX_BLOCK_ROWS", 4)
    lines = [*numbered("x", 9), ("x", ""), *numbered("y", 5)]
    files = [write_lines(tmp_path / "a.tsv", lines), str(write(tmp_path / "b.tsv", ""))]
    Path(files[1]).write_bytes(b"x\t\xff\n")
    with pytest.raises(CorpusError, match="a.tsv, line 10: 'text' is empty"):
        load_splits(LabelledData(train=files, num_workers=2), tmp_path)
    with pytest.raises(CorpusError, match="b.tsv, line 1: not UTF-8"):
        load_splits(LabelledData(train=files, num_workers=2, bad_rows="skip"), tmp_path)


def test_a_file_that_has_changed_is_read_again(tmp_path: Path):
    file = tmp_path / "a.tsv"
    write_lines(file, numbered("x", 5))
    (tmp_path / "blocks").mkdir()
    assert len(read(tmp_path / "blocks", file, BadRows(False))) == 5
    write_lines(file, numbered("y", 5) + [("y", "")])
    bad_rows = BadRows(True)
    rows = read(tmp_path / "blocks", file, bad_rows)
    assert [row.text for row in rows] == [f"y {number}" for number in range(5)]
    assert bad_rows.counts == {"empty text": 1}


MEASURE = """
import resource, sys
from pathlib import Path
from kd_dist.config.sections.data import LabelledData
from kd_dist.data import row_blocks
from kd_dist.data.labelled import prepare
row_blocks.MAX_BLOCK_BYTES = 2**20
source, tokenizer, output = sys.argv[1:]
prepare(LabelledData(train=[source], num_workers=2), tokenizer, Path(output) / "tokens", Path(output) / "train.txt")
print(sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024)
"""


def test_memory_does_not_grow_with_the_texts(tmp_path: Path, tiny):
    def peak(documents: int) -> int:
        folder = tmp_path / str(documents)
        for number in range(documents):
            text = f"{number} {'今天天气很好' * 3_333}"
            write(folder / "raw" / f"class {number % 2}" / f"{number}.txt", text)
        command = [sys.executable, "-c", MEASURE, str(folder / "raw"), str(tiny.teacher), str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        return int(result.stdout)

    assert peak(800) - peak(200) < BOUND_MB
