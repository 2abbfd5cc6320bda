"""Read parquet and Arrow tables, a batch of rows at a time."""

import contextlib
import gzip
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kd_dist.data.discovery import format_suffix
from kd_dist.data.lines import open_input
from kd_dist.data.records import Record, no_column
from kd_dist.errors import CorpusError

ARROW_FILE = b"ARROW1"  # how an Arrow file begins; the other form, the stream, begins otherwise

BATCH_ROWS = 1024


def read_parquet(path: Path, columns: Sequence[str] | None, way_out: str) -> Iterator[Record]:
    """Yield the rows of a parquet file, plain or .gz.

    Raises:
        CorpusError: a damaged file, text that is not UTF-8, and a column that the table does not have.
    """
    import pyarrow.parquet as pq

    with open_input(path) as stream, _damage_explained(path, "parquet"):
        # A small buffer and no pre-buffering: a row group may hold gigabytes.
        file = pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)
        columns = _checked(path, columns, file.schema_arrow.names, way_out)
        batches = file.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False)
        yield from _records(batches, path, columns)


def read_arrow(path: Path, columns: Sequence[str] | None, way_out: str) -> Iterator[Record]:
    """Yield the rows of both forms of Arrow's IPC format: the stream, which `datasets` writes, and the file.

    Raises:
        CorpusError: a damaged file, text that is not UTF-8, and a column that the table does not have.
    """
    with open_input(path) as stream, _damage_explained(path, "Arrow"):
        schema, batches = _arrow_batches(stream)
        yield from _records(batches, path, _checked(path, columns, schema.names, way_out))


def narrow_float_columns(path: Path) -> set[str]:
    """Return the columns of a parquet or Arrow file whose floats have fewer than 64 bits.

    Raises:
        CorpusError: a damaged file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    is_parquet = format_suffix(path) == ".parquet"
    with open_input(path) as stream, _damage_explained(path, "parquet" if is_parquet else "Arrow"):
        schema = pq.ParquetFile(stream).schema_arrow if is_parquet else _arrow_batches(stream)[0]
    return {field.name for field in schema if pa.types.is_float16(field.type) or pa.types.is_float32(field.type)}


def _arrow_batches(stream: Any) -> tuple[Any, Iterable[Any]]:
    """Return the schema of an Arrow file or stream, and its batches."""
    import pyarrow as pa

    is_file = stream.read(len(ARROW_FILE)) == ARROW_FILE
    stream.seek(0)
    reader = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
    return reader.schema, map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader


def count_rows(path: Path) -> int:
    """Return the number of rows of a parquet or Arrow file, plain or .gz.

    Raises:
        CorpusError: a damaged file.
    """
    is_parquet = format_suffix(path) == ".parquet"
    with open_input(path) as stream, _damage_explained(path, "parquet" if is_parquet else "Arrow"):
        if is_parquet:
            import pyarrow.parquet as pq

            return int(pq.ParquetFile(stream).metadata.num_rows)
        return sum(batch.num_rows for batch in _arrow_batches(stream)[1])


@contextlib.contextmanager
def _damage_explained(path: Path, name: str) -> Iterator[None]:
    """Turn what pyarrow says of a table that it cannot read into a CorpusError; `name` is the format's."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        if isinstance(error, gzip.BadGzipFile) or getattr(error, "errno", None) is not None:
            raise  # not pyarrow's own: it says OSError, without a number, of damage inside a file
        raise CorpusError(f"{path}: not a readable {name} file ({error}); write it again") from error


def _checked(path: Path, columns: Sequence[str] | None, found: list[str], way_out: str) -> list[str]:
    """Return the columns to read; None: all."""
    for name in columns or ():
        if name not in found:
            raise CorpusError(f"{path}: {no_column(name, found, way_out)}")
    return found if columns is None else list(columns)


def _records(batches: Iterable[Any], path: Path, columns: Sequence[str]) -> Iterator[Record]:
    number = 0
    for batch in batches:
        for row in zip(*map(batch.column, columns), strict=True):
            number += 1
            place = f"record {number}"
            yield Record(place, {name: _value(cell, path, place) for name, cell in zip(columns, row, strict=True)})


def _value(cell: Any, path: Path, place: str) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}, {place}: not UTF-8 text (byte 0x{error.object[error.start]:02x}); write the text as UTF-8"
        ) from error
