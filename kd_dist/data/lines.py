"""Open files, plain or .gz, and read them as lines of UTF-8."""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn, cast

from kd_dist.data.discovery import is_compressed
from kd_dist.errors import CorpusError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@contextlib.contextmanager
def open_input(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacking .gz, for a block that reads it.

    Raises:
        CorpusError: the block finds that the file cannot be unpacked or is no longer there.
    """
    try:
        with open_bytes(path) as stream:
            yield stream
    except FileNotFoundError as error:
        refuse_missing(path, error)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(
            f"{path}: damaged or truncated gzip file ({error}); check it with `gzip -t` and copy it again"
        ) from error


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, unpacking .gz; damage is reported as the libraries report it."""
    return cast(IO[bytes], gzip.open(path)) if is_compressed(path) else open(path, "rb")


def refuse_missing(path: Path, error: FileNotFoundError) -> NoReturn:
    """Raise a CorpusError about a file that disappeared after the files were listed."""
    raise CorpusError(
        f"{path} was there when the files were listed and is gone; put it back and start the same run again, or "
        "start another run (--run-id) with the files that are there"
    ) from error


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end) of a UTF-8 file, plain or .gz, with or without a byte-order mark.

    Raises:
        CorpusError: text that is not UTF-8, a damaged .gz file, or a file that is gone.
    """
    with open_input(path) as stream:
        for number, raw in enumerate(stream, start=1):
            if number == 1:
                raw = raw.removeprefix(BYTE_ORDER_MARK)
            yield number, _decode(raw, path, number).rstrip("\r\n")


def _decode(raw: bytes, path: Path, number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode("utf-8")) + 1
        encoding = "UTF-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "GB18030"
        raise CorpusError(
            f"{path}, line {number}: not UTF-8 text (byte 0x{raw[error.start]:02x} at column {column}); "
            f"convert it with `iconv -f {encoding} -t UTF-8`"
        ) from error
