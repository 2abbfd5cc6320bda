"""Open files, plain or .gz, and read them as lines of UTF-8."""

import contextlib
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import NoReturn, cast

from kd_dist.data.discovery import is_compressed
from kd_dist.data.file_kinds import HEAD_BYTES, encoding_of_mark, refuse_other_kind, refuse_unpacked
from kd_dist.errors import CorpusError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

CHUNK_BYTES = 1 << 18


@contextlib.contextmanager
def open_input(path: Path) -> Iterator[BufferedReader]:
    """Open a file, unpacking .gz, for a block that reads it.

    Raises:
        CorpusError: the file may not be read or is something else than its name says, or the block finds that it cannot
            be unpacked or is no longer there.
    """
    try:
        if is_compressed(path):
            with open(path, "rb") as packed:
                refuse_unpacked(path, packed.read(HEAD_BYTES))
        with open_bytes(path) as stream:
            refuse_other_kind(path, stream.peek(HEAD_BYTES)[:HEAD_BYTES])
            yield stream
    except FileNotFoundError as error:
        refuse_missing(path, error)
    except PermissionError as error:
        raise CorpusError(f"{path}: {error.strerror}; make it readable for you (`chmod u+r`)") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(
            f"{path}: damaged or truncated gzip file ({error}); check it with `gzip -t` and copy it again"
        ) from error


def refuse_other_kinds(files: Iterable[Path]) -> None:
    """Refuse files that are something else than their names say, from how they begin.

    Raises:
        CorpusError: what `open_input` raises.
    """
    for file in files:
        if file.is_file():  # a pipe can be read once only
            with open_input(file):
                pass


def open_bytes(path: Path) -> BufferedReader:
    """Open a file, unpacking .gz; damage is reported as the libraries report it."""
    return cast(BufferedReader, gzip.open(path)) if is_compressed(path) else open(path, "rb")


def refuse_missing(path: Path, error: FileNotFoundError) -> NoReturn:
    """Raise a CorpusError about a file that disappeared after the files were listed."""
    raise CorpusError(
        f"{path} was there when the files were listed and is gone; put it back and start the same run again, or "
        "start another run (--run-id) with the files that are there"
    ) from error


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end) of a UTF-8 file, plain or .gz, without byte-order marks.

    A line ends with LF, CR LF, or CR alone, as Python, pandas and `datasets` read text. Files that were joined have
    byte-order marks at the beginning of lines.

    Raises:
        CorpusError: text that is not UTF-8, a damaged .gz file, or a file that is gone.
    """
    with open_input(path) as stream:
        for number, raw in enumerate(_raw_lines(stream), start=1):
            yield number, _decode(raw.removeprefix(BYTE_ORDER_MARK), path, number)


def _raw_lines(stream: BufferedReader) -> Iterator[bytes]:
    """Split a stream into lines in constant memory, but for the longest line."""
    begun: list[bytes] = []  # the parts of a line whose end has not been read
    while chunk := stream.read(CHUNK_BYTES):
        while chunk.endswith(b"\r") and (more := stream.read(1)):  # LF may follow
            chunk += more
        first, *others = _line_feeds(chunk).split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun = others[-1:]
    if last := b"".join(begun):
        yield last


def _line_feeds(chunk: bytes) -> bytes:
    """Make every line end LF. CR CR LF is one end too: a conversion of CR LF that was done twice."""
    while b"\r\r\n" in chunk:
        chunk = chunk.replace(b"\r\r\n", b"\r\n")
    return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in chunk else chunk


def _decode(raw: bytes, path: Path, number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode("utf-8")) + 1
        encoding = encoding_of_mark(raw) or "GB18030"
        way_out = f"convert it with `iconv -f {encoding} -t UTF-8`"
        if re.match(rb"\xed[\xa0-\xbf]", raw[error.start :]):
            way_out = "this is half a surrogate pair, which `iconv -c -f UTF-8 -t UTF-8` leaves out"
        raise CorpusError(
            f"{path}, line {number}: not UTF-8 text (byte 0x{raw[error.start]:02x} at column {column}); {way_out}"
        ) from error
