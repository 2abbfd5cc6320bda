"""Lines of files, plain and packed, and what is said of files that cannot be read."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from kd_dist.data import lines
from kd_dist.data.lines import numbered_lines, open_input
from kd_dist.errors import CorpusError


def test_lines_are_numbered_and_lose_their_ends_and_the_byte_order_mark(tmp_path: Path):
    content = b"\xef\xbb\xbf" + "一\r\n\n 二 \n\ufeff三".encode()
    expected = [(1, "一"), (2, ""), (3, " 二 "), (4, "三")]
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


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 18])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("一\r二\r三", ["一", "二", "三"]),
        ("一\r二\r", ["一", "二"]),
        ("一\r\r二", ["一", "", "二"]),
        ("一\r\n二\r三\n四", ["一", "二", "三", "四"]),
        ("一\r\r\n二\r\r\r\n", ["一", "二"]),
        ("\n\r\n", ["", ""]),
        ("a\x0bb\x1cc\x85d\u2028e\n", ["a\x0bb\x1cc\x85d\u2028e"]),
        ("", []),
    ],
)
def test_lines_end_in_any_way_wherever_the_chunks_do(content, expected, size, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_BYTES", size)
    (tmp_path / "a.txt").write_bytes(content.encode())
    assert list(numbered_lines(tmp_path / "a.txt")) == list(enumerate(expected, start=1))


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_memory_does_not_grow_with_the_file(end: str, tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(("x" * 99 + end).encode() * 100_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in numbered_lines(tmp_path / "a.txt")) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000  # of 10 million
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "way_out"),
    [
        ("天".encode("gb18030"), "convert it with `iconv -f GB18030 -t UTF-8`"),
        ("天".encode("utf-16"), "convert it with `iconv -f UTF-16 -t UTF-8`"),
        ("天".encode("utf-32"), "convert it with `iconv -f UTF-32 -t UTF-8`"),
        (b"\0\0\xfe\xff" + "天".encode("utf-32-be"), "convert it with `iconv -f UTF-32 -t UTF-8`"),
        (
            "天\ud83d".encode("utf-8", "surrogatepass"),
            "half a surrogate pair, which `iconv -c -f UTF-8 -t UTF-8` leaves",
        ),
    ],
)
def test_the_way_from_another_encoding(content: bytes, way_out: str, tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(CorpusError, match=r"a.txt, line 1: not UTF-8 text") as error:
        list(numbered_lines(tmp_path / "a.txt"))
    assert way_out in str(error.value)


def test_a_file_that_others_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(lines, "open_bytes", refuse)  # root may read everything
    with pytest.raises(CorpusError, match=r"a.txt: Permission denied; make it readable for you \(`chmod u\+r`\)"):
        list(numbered_lines(tmp_path / "a.txt"))
