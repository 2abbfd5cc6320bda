"""Read files of any format as records, as texts, or as the lines of a corpus."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kd_dist.data.cells import read_table
from kd_dist.data.cleaning import clean
from kd_dist.data.discovery import (
    CELL_SUFFIXES,
    JSON_SUFFIXES,
    NAMED_SUFFIXES,
    RECORD_SUFFIXES,
    find_files,
    format_suffix,
)
from kd_dist.data.json_records import read_json_records
from kd_dist.data.lines import numbered_lines, refuse_missing
from kd_dist.data.records import Record, no_column
from kd_dist.data.tables import read_arrow, read_parquet
from kd_dist.errors import CorpusError

Texts = tuple[str, ...]  # one text, or the two of a pair

SET_TEXT_FIELD = "set data.text_field to the one that holds the text"


def find_plain_texts(patterns: Sequence[str]) -> list[Path]:
    """Find the files of texts without labels that patterns name, as `find_files` does.

    Raises:
        CorpusError: what `find_files` refuses, tables that do not say which column is the text, and no file that is
            not empty.
    """
    files = find_files(patterns)
    if tables := [file for file in files if format_suffix(file) in CELL_SUFFIXES]:
        raise CorpusError(
            f"{tables[0]}: a table does not say which of its columns is the text; give a txt file with a text in each "
            "line (of a pair both, a tab between them), json lines, parquet or Arrow"
        )
    if not any(map(_size, files)):
        raise CorpusError(f"{', '.join(patterns)}: there is no text in these files, all are empty")
    return files


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        refuse_missing(path, error)


def read_records(path: Path, columns: Sequence[str] | None, way_out: str) -> Iterator[Record]:
    """Yield the records of a file that names its columns, one at a time: the file is never in memory as a whole.

    The suffix says how to read it: .jsonl and .json (lines or one list), .parquet, .arrow (stream or file), .tsv and
    .csv (with a header), each plain or .gz.

    Args:
        columns: those that are wanted; others may be left out of the records. None: all.
        way_out: what to do when a column does not exist, the end of the message.

    Raises:
        CorpusError: a damaged file, text that is not UTF-8, and a column that is not there; the message names file and
            place. A JSON object may lack a column: it is not in the values of its record.

    Example:
        >>> for place, values in read_records(Path("titles.jsonl.gz"), ["title"], "choose another column"):
        ...     print(place, values["title"])
        line 1 今天天气很好
    """
    suffix = format_suffix(path)
    if suffix in JSON_SUFFIXES:
        return read_json_records(path)
    readers = {".parquet": read_parquet, ".arrow": read_arrow}
    return readers.get(suffix, read_table)(path, columns, way_out)


def read_texts(path: Path, columns: Sequence[str], way_out: str) -> Iterator[Texts]:
    """Yield the texts of every record of a file that `read_records` reads, or of every line of any other file.

    No record is left out: one without a text (null, a blank line) gives empty texts. In a line of plain text the two
    texts of a pair have a tab between them.

    Args:
        columns: the name of the text, or those of the two texts of a pair.
        way_out: what to do when a column does not exist, the end of the message.

    Raises:
        CorpusError: what `read_records` raises, a column that is not there, a value that is not text, and a line
            of plain text that holds more or fewer texts.
    """
    if format_suffix(path) in RECORD_SUFFIXES:
        for place, values in read_records(path, columns, way_out):
            yield tuple(text_of(values, name, f"{path}, {place}", way_out) for name in columns)
    elif len(columns) == 1:
        yield from ((line,) for _, line in numbered_lines(path))
    else:
        yield from (_split(line, len(columns), f"{path}, line {number}") for number, line in numbered_lines(path))


def text_of(values: dict[str, Any], column: str, where: str, way_out: str) -> str:
    """Return the text in a column of a record that is at `where`, empty for null.

    Raises:
        CorpusError: there is no such column, or something else in it than text.
    """
    if column not in values:
        raise CorpusError(f"{where}: {no_column(column, values, way_out)}")
    value = values[column]
    if value is not None and not isinstance(value, str):
        raise CorpusError(f"{where}: {column!r} holds {type(value).__name__}, expected text")
    return value or ""  # null is usual in tables


def clean_texts(values: dict[str, Any], columns: Sequence[str], where: str) -> Texts:
    """Return the cleaned texts in columns of a record that is at `where`.

    Raises:
        CorpusError: what `text_of` raises.
    """
    return tuple(clean(text_of(values, name, where, SET_TEXT_FIELD)) for name in columns)


def _split(line: str, num_texts: int, where: str) -> Texts:
    if not line.strip():
        return ("",) * num_texts
    texts = tuple(line.split("\t"))
    if len(texts) != num_texts:
        raise CorpusError(
            f"{where}: {len(texts)} texts with tabs between them, expected {num_texts}, the texts of a pair; json "
            "lines, csv with a header and parquet hold them as columns"
        )
    return texts


def read_lines(path: Path, text_field: str = "text") -> Iterator[str | None]:
    """Yield the lines of a file of a corpus; "" and None are the borders between documents.

    In JSON lines, a JSON list, parquet and Arrow every record is a document, and None follows it. Any other file is
    plain text, where an empty line, "", is the border. The file is never in memory as a whole.

    Raises:
        CorpusError: what `read_texts` raises.
    """
    if format_suffix(path) in NAMED_SUFFIXES:
        for (text,) in read_texts(path, [text_field], SET_TEXT_FIELD):
            yield text
            yield None
    else:
        yield from (line for _, line in numbered_lines(path))
