"""Read tsv and csv files as rows of cells."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kd_dist.data.discovery import format_suffix
from kd_dist.data.lines import numbered_lines
from kd_dist.data.records import Record, column_name, no_column
from kd_dist.data.separators import refuse_other_separator, usual_separator
from kd_dist.errors import CorpusError

Cells = Iterator[tuple[int, list[str]]]  # number of the line in which a row begins, from 1, and its cells


def read_cells(path: Path, separator: str | None = None) -> Cells:
    """Yield the rows of a table without looking for a header.

    An empty line is a row without cells.

    Args:
        separator: what separates columns; None: commas in csv, else tabs. Only in csv, and between separators of one
            character, quotes have a meaning.

    Raises:
        CorpusError: what `numbered_lines` raises, and quotes in csv that do not match.
    """
    separator = separator or usual_separator(path)
    is_quoted = format_suffix(path) == ".csv" and len(separator) == 1
    return _quoted(path, separator) if is_quoted else _unquoted(path, separator)


def _unquoted(path: Path, separator: str) -> Cells:
    """Split lines. A quote is a character like any other, as in the official GLUE files."""
    return ((number, line.split(separator) if line else []) for number, line in numbered_lines(path))


def _quoted(path: Path, separator: str) -> Cells:
    """Read csv as RFC 4180 defines it: a cell in quotes may contain separators, line ends, and doubled quotes."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader((f"{line}\n" for _, line in numbered_lines(path)), strict=True, delimiter=separator)
    line = 1
    try:
        for cells in rows:
            yield line, cells
            line = rows.line_num + 1
    except csv.Error as error:
        raise CorpusError(
            f"{path}, line {line}: not csv ({error}); a quote inside a cell is doubled, and a file without quoting "
            "wants tabs and the name .tsv"
        ) from error


def read_table(path: Path, columns: Sequence[str] | None, way_out: str) -> Iterator[Record]:
    """Yield the rows below a header. Cells that are missing at the end of a row are empty, as all are of an empty line.

    Raises:
        CorpusError: what `read_cells` raises, another separator, a column that is not in the header, and a row that is
            wider than it.
    """
    rows = read_cells(path)
    number, header = next(((number, row) for number, row in rows if row), (0, []))
    if not header:
        return
    names = list(map(column_name, header))
    for name in columns or ():
        if name not in names:
            refuse_other_separator(path, usual_separator(path), num_columns=2)
            raise CorpusError(f"{path}, line {number}: {no_column(name, names, way_out)}")
    positions = {name: names.index(name) for name in (names if columns is None else columns)}
    yield from records_below_header(path, rows, positions, len(names))


def records_below_header(path: Path, rows: Cells, positions: Mapping[str, int], width: int) -> Iterator[Record]:
    """Yield the rows below a header of this width. Cells that are missing at the end of a row are empty.

    Raises:
        CorpusError: a row that is wider than the header.
    """
    hint = "a text with commas needs quotes" if format_suffix(path) == ".csv" else "a text must not contain a tab"
    for number, row in rows:
        if any(row[width:]):
            raise CorpusError(f"{path}, line {number}: {len(row)} columns, expected {width} as in the header ({hint})")
        values = {name: row[position] if position < len(row) else "" for name, position in positions.items()}
        yield Record(f"line {number}", values)
