"""Find the texts of judgements that name their rows by an id.

Only the texts that were judged are kept: the files that hold them may be much larger than the judgements.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from kd_dist.data.cleaning import clean
from kd_dist.data.judgement_files import SET_ID_FIELD, check_id_texts, find_id_texts
from kd_dist.data.readers import Texts, clean_texts, read_records
from kd_dist.errors import CorpusError, excerpt

LARGEST_EXACT = 2**53  # a float does not tell this number from the next

_AS_FLOAT = re.compile(r"-?\d+\.0+|-?\d(\.\d+)?e\+\d+")  # 7.0, and 1e+05, as R writes it


@dataclass(frozen=True)
class RowTexts:
    """The texts of the rows that were judged.

    Attributes:
        column: the column of the id.
        texts: the cleaned text, or both of a pair, of each id.
    """

    column: str
    texts: dict[str, Texts]

    @classmethod
    def of(cls, judged: Sequence[Path], column: str, patterns: Sequence[str], text_columns: Sequence[str]) -> Self:
        """Read which rows were judged, and then their texts, one record at a time.

        Rows without an id or a text do not count.

        Args:
            judged: the files of judgements.
            column: the column of the id, in all files.
            patterns: the files that have texts.
            text_columns: the columns of the texts in these.

        Raises:
            CorpusError: what `find_id_texts`, `check_id_texts`, `read_records` and `id_of` raise, an id that has two
                different texts, and judgements none of which has a text; the message names files and places.
        """
        wanted = {row_id for _, row_id, _ in _rows(judged, [column])}
        files = find_id_texts(patterns)
        for file in files:
            check_id_texts(file, column, text_columns)
        found: dict[str, tuple[str, Texts]] = {}
        for where, row_id, values in _rows(files, [column, *text_columns]):
            if row_id in wanted and all(texts := clean_texts(values, text_columns, where)):
                _refuse_another_text(row_id, found.setdefault(row_id, (where, texts)), (where, texts))
        if wanted and not found:
            raise CorpusError(
                f"no id in data.soft_labels is that of a text in data.id_texts: column {column!r} begins with "
                f"{_first_id(judged, column)}, and with {_first_id(files, column)}; give the files that have the ids "
                "and the texts of what was judged"
            )
        return cls(column, {row_id: texts for row_id, (_, texts) in found.items()})

    def find(self, values: dict[str, Any], where: str) -> tuple[Texts, str]:
        """Return the texts of a judgement, and if there are none the name under which it is counted."""
        row_id = id_of(values, self.column, where)
        texts = self.texts.get(row_id, ())
        return texts, "" if texts else "unknown_id" if row_id else "without_id"


def id_of(values: dict[str, Any], column: str, where: str) -> str:
    """Return the id of a record that is at `where` as a clean text, empty if it has none.

    A whole number is the same id where a table holds it as a float, as one whose column of numbers has gaps does: 7 is
    7.0, and 100000 is 1e+05.

    Raises:
        CorpusError: it is neither text nor a number, or a float so large that others were rounded to it.
    """
    value = values.get(column)
    if value is None or value != value:  # NaN, also as a Decimal
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise CorpusError(f"{where}: {column!r} holds {type(value).__name__}, expected an id, a text or a number")
    text = clean(str(value))
    if not isinstance(value, float) and not _AS_FLOAT.fullmatch(text):
        return text
    number = Decimal(text)
    if not abs(number) < LARGEST_EXACT:
        raise CorpusError(
            f"{where}: {column!r} holds {text} as a float, to which other numbers of this size are rounded; write "
            "ids as text or as integers"
        )
    return str(int(number)) if number == int(number) else text


def _rows(files: Sequence[Path], columns: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the place, the id, which is in the first column, and the values of each record that has an id."""
    for file in files:
        for place, values in read_records(file, columns, SET_ID_FIELD):
            where = f"{file}, {place}"
            if row_id := id_of(values, columns[0], where):
                yield where, row_id, values


def _first_id(files: Sequence[Path], column: str) -> str:
    first = next(_rows(files, [column]), None)
    return f"{first[1]!r} in {first[0]}" if first else f"nothing in {', '.join(map(str, files[:3]))}"


def _refuse_another_text(row_id: str, earlier: tuple[str, Texts], now: tuple[str, Texts]) -> None:
    if earlier[1] != now[1]:
        theirs, ours = next(pair for pair in zip(earlier[1], now[1], strict=True) if pair[0] != pair[1])
        same = len(os.path.commonprefix([theirs, ours]))
        raise CorpusError(
            f"{now[0]}: the id {row_id!r} has the text {excerpt(ours, same)}, but {excerpt(theirs, same)} in "
            f"{earlier[0]}; give each text an id of its own, or name only the files that were judged in data.id_texts"
        )
