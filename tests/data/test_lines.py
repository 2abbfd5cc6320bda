"""Lines of files, plain and packed, and what is said of files that cannot be read."""

import gzip
from pathlib import Path

import pytest

from kd_dist.data.lines import numbered_lines, open_input
from kd_dist.errors import CorpusError


def test_lines_are_numbered_and_lose_their_ends_and_the_byte_order_mark(tmp_path: Path):
    content = b"\xef\xbb\xbf" + "一\r\n\n 二 \n\ufeff三".encode()
    expected = [(1, "一"), (2, ""), (3, " 二 "), (4, "\ufeff三")]
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.txt.GZ").write_bytes(gzip.compress(content))
    assert list(numbered_lines(tmp_path / "a.txt")) == list(numbered_lines(tmp_path / "a.txt.GZ")) == expected


def test_a_file_that_is_gone(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"a.txt was there when the files were listed and is gone; put it back"):
        next(numbered_lines(tmp_path / "a.txt"))


def test_errors_that_are_not_of_the_file_pass_through(tmp_path: Path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ZeroDivisionError), open_input(tmp_path / "a.txt") as stream:
        len(stream.read()) / 0
