"""Read files as lines and records."""

import contextlib
import gzip
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from kd_dist.data.discovery import find_files, kind
from kd_dist.errors import CorpusError

TEXTS = ("text", "text_pair")  # columns for people, which no model reads

TABLES_WITHOUT_NAMES = (".tsv", ".csv")

ARROW_FILE = b"ARROW1"  # how a file begins that is not a stream

Records = Iterator[tuple[int, tuple[str, ...]]]  # line or record number from 1, texts


def find_plain_texts(patterns: Sequence[str]) -> list[Path]:
    """`find_files` for texts without labels.

    Raises CorpusError for what `find_files` refuses, for tables that do not say which column is the text, and when all
    files are empty.
    """
    files = find_files(patterns)
    if tables := [file for file in files if kind(file) in TABLES_WITHOUT_NAMES]:
        raise CorpusError(
            f"{tables[0]}: a table does not say which of its columns is the text; give a txt file with a text in each "
            "line (of a pair both, a tab between them), json lines, parquet or Arrow"
        )
    if not any(map(_size_of_file, files)):
        raise CorpusError(f"{', '.join(patterns)}: there is no text in these files, all are empty")
    return files


def _size_of_file(path: Path) -> int:
    with damage_explained(path):
        return path.stat().st_size


def read_lines(path: Path, text_field: str = "text") -> Iterator[tuple[int, str | None]]:
    """Yield (line or record number from 1, text) of a .txt, .jsonl, .json (lines), .parquet or .arrow file, or its .gz.

    Any other suffix is read as plain text, where an empty line, "", is the border between two documents. In JSON
    lines, parquet and Arrow every record is a document, and (number, None) after it is the border. The file is never in
    memory as a whole. Raises CorpusError for text that is not UTF-8, a file that is damaged or gone, bad JSON, and a
    missing or non-text field.
    """
    is_text = kind(path) not in RECORD_READERS
    for number, (text,) in read_records(path, [text_field]):
        yield number, text
        if not is_text:
            yield number, None


def read_records(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line or record number from 1, the texts of `fields`) of any file that `read_lines` reads.

    A line of plain text is one text; where two are asked for there is a tab between them. Raises what `read_lines`
    raises, and CorpusError for a line of plain text that is not blank and holds more or fewer texts.
    """
    with damage_explained(path):
        yield from RECORD_READERS.get(kind(path), _read_text)(path, fields)


@contextlib.contextmanager
def damage_explained(path: Path) -> Iterator[None]:
    """A file that cannot be unpacked, or is no longer there, becomes a CorpusError that says so."""
    try:
        yield
    except FileNotFoundError as error:
        raise CorpusError(
            f"{path} was there when the files were listed and is gone; put it back and start the same run again, or "
            "start another run (--run-id) with the files that are there"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(
            f"{path}: damaged or truncated gzip file ({error}); check it with `gzip -t` and copy it again"
        ) from error


def open_bytes(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else open(path, "rb")


def _read_text(path: Path, fields: Sequence[str]) -> Records:
    if len(fields) == 1:
        yield from ((number, (line,)) for number, line in numbered_lines(path))
        return
    for number, line in numbered_lines(path):
        texts = tuple(line.split("\t"))
        if len(texts) != len(fields) and line.strip():
            raise CorpusError(
                f"{path}, line {number}: {len(texts)} texts with tabs between them, expected {len(fields)}, the texts "
                "of a pair; json lines and parquet hold them as fields"
            )
        yield number, texts


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end) of a UTF-8 file, plain or .gz, with or without a byte-order mark."""
    with open_bytes(path) as stream:
        for number, raw in enumerate(stream, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
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


def _read_json_lines(path: Path, fields: Sequence[str]) -> Records:
    for number, line in numbered_lines(path):
        if line.strip():
            yield number, _fields_of_json(line, fields, f"{path}, line {number}")


def _fields_of_json(line: str, fields: Sequence[str], where: str) -> tuple[str, ...]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{where}: not JSON ({error}); every line must be one whole JSON object") from error
    if not isinstance(record, dict):
        raise CorpusError(f"{where}: a JSON {type(record).__name__}; every line must be one whole JSON object")
    _check_fields(where, fields, list(record))
    return tuple(_text_of(record[field], field, where) for field in fields)


def _check_fields(where: str, fields: Sequence[str], found: list[str]) -> None:
    for field in fields:
        if field not in found:
            way_out = "the second text of a pair has this name" if field == TEXTS[1] else "set text_field to one"
            raise CorpusError(f"{where}: no field {field!r}; the fields are {', '.join(found) or 'none'}: {way_out}")


def _text_of(value: object, text_field: str, where: str) -> str:
    if value is None:  # usual in tables; counts as an empty line
        return ""
    if not isinstance(value, str):
        raise CorpusError(f"{where}: the field {text_field!r} holds {type(value).__name__}, expected text")
    return value


def _read_parquet(path: Path, fields: Sequence[str]) -> Records:
    import pyarrow.parquet as pq

    with open_bytes(path) as stream, table_damage_explained(path, "parquet"):
        # A small buffer and no pre-buffering: a row group may hold gigabytes.
        file = pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)
        _check_fields(f"{path}, line 1", fields, file.schema_arrow.names)
        batches = file.iter_batches(batch_size=1024, columns=list(fields), use_threads=False)
        yield from _records_of(batches, path, fields)


def _read_arrow(path: Path, fields: Sequence[str]) -> Records:
    """Both forms of Arrow's IPC format: the stream, which `datasets` writes, and the file."""
    import pyarrow as pa

    with open_bytes(path) as stream, table_damage_explained(path, "Arrow"):
        is_file = stream.read(len(ARROW_FILE)) == ARROW_FILE
        stream.seek(0)
        reader = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
        _check_fields(f"{path}, line 1", fields, reader.schema.names)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        yield from _records_of(batches, path, fields)


@contextlib.contextmanager
def table_damage_explained(path: Path, name: str) -> Iterator[None]:
    """A table that pyarrow cannot read becomes a CorpusError that says so; `name` is the format it should have."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        if isinstance(error, gzip.BadGzipFile) or getattr(error, "errno", None) is not None:
            raise  # not pyarrow's own: it says OSError, without a number, of damage inside a file
        raise CorpusError(f"{path}: not a readable {name} file ({error}); write it again") from error


def _records_of(batches: Iterable[Any], path: Path, fields: Sequence[str]) -> Records:
    rows = itertools.chain.from_iterable(zip(*map(batch.column, fields), strict=True) for batch in batches)
    for number, values in enumerate(rows, start=1):
        where = f"{path}, line {number}"
        named = zip(fields, values, strict=True)
        yield number, tuple(_text_of(_python_value(value, where), field, where) for field, value in named)


def _python_value(value: Any, where: str) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{where}: not UTF-8 text (byte 0x{error.object[error.start]:02x}); write the text as UTF-8"
        ) from error


RECORD_READERS = {
    ".jsonl": _read_json_lines,
    ".json": _read_json_lines,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
