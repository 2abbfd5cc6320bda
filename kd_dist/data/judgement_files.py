"""Find files of judgements, and check that their columns are texts and classes."""

from collections.abc import Sequence
from pathlib import Path

from kd_dist.config.sections.data import SoftLabelsData
from kd_dist.data.cells import read_cells
from kd_dist.data.discovery import CELL_SUFFIXES, RECORD_SUFFIXES, TABLE_SUFFIXES, find_files, format_suffix
from kd_dist.data.readers import SET_TEXT_FIELD, read_records
from kd_dist.data.records import column_name, no_column
from kd_dist.data.separators import refuse_other_separator, usual_separator
from kd_dist.data.tables import narrow_float_columns
from kd_dist.errors import CorpusError

NO_CLASSES = "data.task=regression has no classes, which soft labels are for: give the judged number as the label"

SET_ID_FIELD = "set data.id_field to the one that holds the id, in data.soft_labels and in data.id_texts alike"


def find_judgements(patterns: Sequence[str]) -> list[Path]:
    """Find the files that `data.soft_labels` names.

    Raises:
        CorpusError: what `find_files` refuses, and files that do not name their columns.
    """
    return _find_records(patterns, "which column is the text, and which a class")


def find_id_texts(patterns: Sequence[str]) -> list[Path]:
    """Find the files that `data.id_texts` names.

    Raises:
        CorpusError: what `find_files` refuses, and files that do not name their columns.
    """
    return _find_records(patterns, "which column is the id, and which the text")


def _find_records(patterns: Sequence[str], question: str) -> list[Path]:
    files = find_files(patterns, RECORD_SUFFIXES)
    for file in files:
        if format_suffix(file) not in RECORD_SUFFIXES:
            raise CorpusError(
                f"{file}: {question}, must be known; give one of {', '.join(RECORD_SUFFIXES)} (plain or .gz), tsv and "
                "csv with a header"
            )
    return files


def check_columns(file: Path, data: SoftLabelsData, text_columns: Sequence[str]) -> None:
    """Refuse a file whose first record does not have the texts, or the id in their place, or has no class beside them.

    Args:
        file: the file.
        data: the settings.
        text_columns: the names that the texts must have.

    Raises:
        CorpusError: it is so, or the file has no record, a column without a name, two columns of one name, or ids that
            are rounded.
    """
    names = _column_names(file)
    if data.id_field:
        _require_id(file, names, data.id_field)
    else:
        _require_texts(file, names, text_columns)
    _refuse_repeated(file, names, names)
    others = set(names) - {*filter(None, [data.id_field]), *text_columns, *data.ignored_columns}
    if "" in others:
        raise _nameless(file, names)
    if not others:
        raise CorpusError(
            f"{_header(file)}: no column of a class beside {', '.join(map(repr, names))}; write the probability or "
            "logit of each class into a column that is called like the class"
        )


def check_id_texts(file: Path, id_field: str, text_columns: Sequence[str]) -> None:
    """Refuse a file whose first record does not have the id and the texts.

    Args:
        file: the file.
        id_field: the name of the column of the id.
        text_columns: the names that the texts must have.

    Raises:
        CorpusError: it is so, or the file has no record, two such columns of one name, or ids that are rounded.
    """
    names = _column_names(file)
    _require_id(file, names, id_field)
    _require_texts(file, names, text_columns)
    _refuse_repeated(file, names, [id_field, *text_columns])


def _require_id(file: Path, names: Sequence[str], id_field: str) -> None:
    _require_columns(file, names, [id_field], SET_ID_FIELD)
    if format_suffix(file) in TABLE_SUFFIXES and id_field in narrow_float_columns(file):
        raise CorpusError(
            f"{file}: {id_field!r} is a column of short floats, to which large ids are rounded; write ids as text or "
            "as integers"
        )


def _require_texts(file: Path, names: Sequence[str], text_columns: Sequence[str]) -> None:
    _require_columns(file, names, text_columns[:1], SET_TEXT_FIELD)
    _require_columns(file, names, text_columns[1:], "the second text of a pair has this name here: rename its column")


def _require_columns(file: Path, names: Sequence[str], wanted: Sequence[str], way_out: str) -> None:
    if not names:
        raise CorpusError(f"{file}: there is no record in it; write one for each text")
    for name in wanted:
        if name not in names:
            where = _header(file)
            if format_suffix(file) in CELL_SUFFIXES:
                usual = usual_separator(file)
                refuse_other_separator(file, usual, num_columns=2, where=where, way_out="write the file with these")
            if "" in names:
                raise _nameless(file, names, f", and none is called {name!r}")
            raise CorpusError(f"{where}: {no_column(name, names, way_out)}")


def _refuse_repeated(file: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    for name in columns:
        if (count := names.count(name)) > 1:
            raise CorpusError(f"{_header(file)}: {count} columns are called {name!r}; give each its own name")


def _nameless(file: Path, names: Sequence[str], more: str = "") -> CorpusError:
    named = ", ".join(filter(None, names)) or "none"
    return CorpusError(
        f"{_header(file)}: column {names.index('') + 1} has no name{more}; those with a name are {named}; name it "
        "there, or write the file without it (`index=False` in pandas, whose index has no name)"
    )


def _header(file: Path) -> str:
    """Return where a message finds the names of the columns."""
    return f"{file}, line 1" if format_suffix(file) in CELL_SUFFIXES else f"{file}"


def _column_names(file: Path) -> list[str]:
    """Return the names in the header of a table, or in the first record of another file."""
    if format_suffix(file) in CELL_SUFFIXES:
        header = next((cells for _, cells in read_cells(file) if cells), [])
        return list(map(column_name, header))
    return next((list(record.values) for record in read_records(file, None, SET_TEXT_FIELD)), [])
