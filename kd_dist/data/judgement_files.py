"""Find files of judgements, and check that their columns are texts and classes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kd_dist.config.sections.data import SoftLabelsData
from kd_dist.data.cells import read_cells
from kd_dist.data.discovery import CELL_SUFFIXES, RECORD_SUFFIXES, find_files, format_suffix
from kd_dist.data.readers import SET_TEXT_FIELD, read_records
from kd_dist.data.records import column_name, no_column
from kd_dist.data.separators import refuse_other_separator, usual_separator
from kd_dist.errors import CorpusError

NO_CLASSES = "data.task=regression has no classes, which soft labels are for: give the judged number as the label"


def find_judgements(patterns: Sequence[str]) -> list[Path]:
    """Find the files that `data.soft_labels` names.

    Raises:
        CorpusError: what `find_files` refuses, and files that do not name their columns.
    """
    files = find_files(patterns, RECORD_SUFFIXES)
    for file in files:
        if format_suffix(file) not in RECORD_SUFFIXES:
            raise CorpusError(
                f"{file}: which column is the text, and which a class, must be known; give one of "
                f"{', '.join(RECORD_SUFFIXES)} (plain or .gz), tsv and csv with a header"
            )
    return files


def check_columns(file: Path, data: SoftLabelsData, text_columns: Sequence[str]) -> None:
    """Refuse a file whose first record does not have the texts, or has no class beside them.

    Args:
        file: the file.
        data: the settings.
        text_columns: the names that the texts must have.

    Raises:
        CorpusError: it is so, or the file has no record, or two columns of one name.
    """
    names = _column_names(file)
    where = f"{file}, line 1" if format_suffix(file) in CELL_SUFFIXES else f"{file}"
    if not names:
        raise CorpusError(f"{file}: there is no record in it; write one for each text that was judged")
    for name in text_columns:
        if name not in names:
            if format_suffix(file) in CELL_SUFFIXES:
                usual = usual_separator(file)
                refuse_other_separator(file, usual, num_columns=2, where=where, way_out="write the file with these")
            raise CorpusError(f"{where}: {no_column(name, names, SET_TEXT_FIELD)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise CorpusError(f"{where}: {names.count(twice[0])} columns are called {twice[0]!r}; give each its own name")
    if not set(names) - {*text_columns, *data.ignored_columns}:
        raise CorpusError(
            f"{where}: no column of a class beside {', '.join(map(repr, names))}; write the probability or logit of "
            "each class into a column that is called like the class"
        )


def _column_names(file: Path) -> list[str]:
    """Return the names in the header of a table, or in the first record of another file."""
    if format_suffix(file) in CELL_SUFFIXES:
        header = next((cells for _, cells in read_cells(file) if cells), [])
        return list(map(column_name, header))
    return next((list(record.values) for record in read_records(file, None, SET_TEXT_FIELD)), [])
