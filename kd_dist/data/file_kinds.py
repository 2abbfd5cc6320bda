"""Tell what a file is by how it begins, whatever its name says."""

import re
from pathlib import Path

from kd_dist.data.discovery import format_suffix, is_compressed
from kd_dist.errors import CorpusError

GZIP = b"\x1f\x8b"

HEAD_BYTES = 8192  # of a spreadsheet, this has the names of its first parts

_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}

_SAVE_AS_CSV = "save the sheet as `CSV UTF-8` in Excel or LibreOffice and give that file"

_SAVE_AS_TEXT = "write its contents as txt, tsv, csv, json lines or parquet"

# (how a file begins, what it is, the way out); the first that matches counts.
_KINDS: tuple[tuple[re.Pattern[bytes], str, str], ...] = tuple(
    (re.compile(beginning, re.DOTALL), what, way_out)
    for beginning, what, way_out in (
        (rb"PK\x03\x04.*?(?:xl/|opendocument\.spreadsheet)", "a spreadsheet (.xlsx, .ods)", _SAVE_AS_CSV),
        (rb"PK\x03\x04.*?(?:word/|opendocument\.text)", "a Word or LibreOffice document", "save it as plain text"),
        (rb"PK[\x03\x05]", "a zip archive", "unpack it with `unzip` and give the files in it"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of an old Excel or Word (.xls, .doc)", _SAVE_AS_CSV),
        (GZIP, "packed with gzip", "add .gz to its name"),
        (rb"BZh[1-9]", "packed with bzip2", "unpack it with `bunzip2`"),
        (rb"\xfd7zXZ\x00", "packed with xz", "unpack it with `unxz`"),
        (rb"\x28\xb5\x2f\xfd", "packed with Zstandard", "unpack it with `unzstd`"),
        (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it with `7z x` and give the files in it"),
        (rb"Rar!\x1a\x07", "a RAR archive", "unpack it with `unrar x` and give the files in it"),
        (rb".{257}ustar", "a tar archive", "unpack it with `tar -xf` and give the files in it"),
        (rb"PAR1", "parquet", "give it the suffix .parquet"),
        (rb"ARROW1|\xff{4}.{3}\x00", "Arrow", "give it the suffix .arrow"),
        (rb"SQLite format 3\x00", "an SQLite database", _SAVE_AS_TEXT),
        (rb"%PDF-", "a PDF", _SAVE_AS_TEXT),
        (rb"\x93NUMPY", "a NumPy array", _SAVE_AS_TEXT),
        (rb"\x80[\x02-\x05].", "a Python pickle", _SAVE_AS_TEXT),
        (rb"version https://git-lfs", "a Git LFS pointer, which stands for the file", "fetch the file: `git lfs pull`"),
    )
)

_EXPECTED = {".parquet": "parquet", ".arrow": "Arrow"}


def encoding_of_mark(beginning: bytes) -> str | None:
    """Return the encoding whose byte-order mark a file begins with; None for UTF-8 and without a mark."""
    return next((encoding for mark, encoding in _MARKS.items() if beginning.startswith(mark)), None)


def refuse_other_kind(path: Path, head: bytes) -> None:
    """Refuse a file that is something else than its name says.

    Args:
        path: the file.
        head: how its content begins, once unpacked if its name ends in .gz.

    Raises:
        CorpusError: it is; the message says what it is and the way out.
    """
    expected = _EXPECTED.get(format_suffix(path), "text")
    kind = _kind(head) or (_kind_of_text(head) if expected == "text" else _text_in_place_of_table(head))
    if kind is None or kind[0] == expected:
        return
    what, way_out = kind
    if is_compressed(path):
        what = f"{what}, inside gzip"
        way_out = f"unpack it with `gunzip`, then {way_out}"
    raise CorpusError(f"{path}: this is {what}, not {expected}; {way_out}")


def refuse_unpacked(path: Path, head: bytes) -> None:
    """Refuse a file whose name ends in .gz and which is not packed with gzip; `head` is how it begins.

    Raises:
        CorpusError: it is; the message says what it is.
    """
    if head and not head.startswith(GZIP):
        what, way_out = _kind(head) or _kind_of_text(head) or ("text", "take .gz off its name")
        raise CorpusError(f"{path}: this is {what}, not gzip; {way_out}")


def _kind(head: bytes) -> tuple[str, str] | None:
    return next(((what, way_out) for beginning, what, way_out in _KINDS if beginning.match(head)), None)


def _kind_of_text(head: bytes) -> tuple[str, str] | None:
    """Tell UTF-16 without a byte-order mark, and other files full of zero bytes, from text."""
    if encoding_of_mark(head) or head.count(0) <= len(head) // 16:
        return None
    for name, zeros in (("UTF-16LE", head[1::2].count(0)), ("UTF-16BE", head[::2].count(0))):
        if zeros == head.count(0):
            return f"{name} without a byte-order mark", f"convert it with `iconv -f {name} -t UTF-8`"
    return "a binary file", _SAVE_AS_TEXT


def _text_in_place_of_table(head: bytes) -> tuple[str, str] | None:
    if 0 in head or not head:
        return None
    return "text", "give it the suffix of its format: .txt, .tsv, .csv or .jsonl"
