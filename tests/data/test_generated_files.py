"""Labelled files of any make are read as they were meant, or refused with one message that names the file.

KD_DIST_EXAMPLES=2000 tries more of them than the 200 that every run of the tests does.
"""

import gzip
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.cleaning import clean
from kd_dist.data.columns import parse_columns
from kd_dist.data.labelled_rows import BadRows, RowReader, refuse_header_as_row
from kd_dist.errors import CorpusError

EXAMPLES = int(os.environ.get("KD_DIST_EXAMPLES", "200"))

LABELS = ("体育", "财经", "a b", "-1", "Ｆ")

INVISIBLE = st.sampled_from(["\u200b", "\ufeff", "\u200d", "\u00ad", "\x00", "\x1a", ""])

SPACE = st.sampled_from([" ", "\u3000", "\u00a0", "\x85", "\u2028", "\x0b", ""])

TEXT = st.text(
    st.sampled_from("今天气好Ａaé😀\"'\\,;|:_!-\t\n\r \u3000\u2028\x85\x1c\x00\u200b\ufeff")
    | st.characters(codec="utf-8")
)

HALVES = st.text(st.sampled_from("天a\ud83d\ude00\udfff"))  # of surrogate pairs, which JSON can hold

ENCODING = st.sampled_from(
    ["utf-8"] * 6 + ["utf-8-sig"] * 3 + ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"]
)

# What a row that cannot be used lacks: its text, its label, or the right number of columns.
FAULTS = ("", "", "", "", "text", "label", "column", "too many")


@dataclass(frozen=True)
class Row:
    label: str
    text: str
    fault: str = ""


@dataclass(frozen=True)
class Made:
    """A file, the settings to read it with, the rows in it, and whether it may be refused though all are good."""

    name: str
    content: bytes
    settings: dict[str, str]
    rows: list[Row]
    num_bad: int
    may_be_refused: bool = False


@st.composite
def labels(draw: st.DrawFn) -> str:
    return draw(SPACE) + draw(st.sampled_from(LABELS)) + draw(INVISIBLE) + draw(SPACE)


@st.composite
def rows(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXT) -> list[Row]:
    """Rows and two plain ones of each label, so that the first is no header and no encoding looks like another."""
    made, has_faults = [], draw(st.booleans())
    for _ in range(draw(st.integers(0, 6))):
        text = draw(texts) + ("" if has_faults else "天")
        is_repeated = text and "\x00" not in text and draw(st.integers(0, 7)) == 0  # every other NUL would be UTF-16
        text *= 1 + 200_000 // len(text) if is_repeated else 1
        fault = draw(st.sampled_from(FAULTS)) if has_faults else ""
        made.append(Row(draw(labels()), text, fault or ("" if clean(text) else "text")))
    return [*made, *(Row(label, "今天天气很好，股票又涨了") for label in 2 * LABELS)]


def without(row: Row, characters: str) -> Row:
    """Take the characters out of a row that a format without quotes cannot hold."""
    label, text = (cell.translate(dict.fromkeys(map(ord, characters))) for cell in (row.label, row.text))
    return Row(label, text, row.fault or ("" if clean(text) else "text"))


def cells_of(row: Row) -> list[str]:
    cells = ["" if row.fault == "label" else row.label, " " if row.fault == "text" else row.text]
    return {"column": ["体育"], "too many": [*cells, "more"]}.get(row.fault, cells)


@st.composite
def tables(draw: st.DrawFn) -> Made:
    suffix = draw(st.sampled_from([".tsv", ".csv", ".txt", ".TSV", ".Csv"]))
    usual = "," if suffix.lower() == ".csv" else "\t"
    separator = draw(st.sampled_from([usual, usual, ";", "|", "||", "_!_", "\x01", "\t", ","]))
    has_quotes = suffix.lower() == ".csv" and len(separator) == 1
    made = draw(rows())
    if not has_quotes:
        made = [without(row, separator + "\r\n") for row in made]
    always = draw(st.booleans())

    def line(cells: list[str]) -> str:
        if not has_quotes:
            return separator.join(cells)
        special = {'"', "\r", "\n", separator}
        return separator.join(
            '"' + cell.replace('"', '""') + '"' if always or special & set(cell) else cell for cell in cells
        )

    header, columns = draw(
        st.sampled_from([("", "label,text"), ("label text", "label,text"), ("类 文", "label:类,text:文")])
    )
    lines = [line(cells_of(row)) for row in made]
    num_bad = sum(bool(row.fault) for row in made)
    if header:
        lines.insert(0, line(header.split()))
        if draw(st.integers(0, 2)) == 0:  # files that were joined
            lines.insert(draw(st.integers(1, len(lines))), draw(st.sampled_from(["", "\ufeff"])) + lines[0])
            num_bad += 1
    for _ in range(draw(st.integers(0, 2))):
        lines.insert(draw(st.integers(0, len(lines))), "")
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r"]]))
    content = "".join(text + draw(st.sampled_from(ends)) for text in lines)
    content = content if draw(st.booleans()) else content.rstrip("\r\n")
    encoding = draw(ENCODING)
    may_be_refused = not encoding.startswith("utf-8")
    options = {"columns": columns}
    if separator != usual:
        if draw(st.integers(0, 5)):
            options["separator"] = separator
        else:
            may_be_refused = True
    return Made("a" + suffix, content.encode(encoding), options, made, num_bad, may_be_refused)


@st.composite
def json_files(draw: st.DrawFn) -> Made:
    made = draw(rows(TEXT | HALVES))
    records: list[dict[str, Any]] = []
    for row in made:
        record: dict[str, Any] = {"other": 1, "label": row.label, "text": row.text}
        faults = {"label": {"label": None}, "text": {"text": None}, "too many": {"text": ["x"]}}
        record |= faults.get(row.fault, {})
        records.append({"label": "体育"} if row.fault == "column" else record)
    ascii_only = any(0xD800 <= ord(c) < 0xE000 for row in made for c in row.text) or draw(st.booleans())
    if draw(st.booleans()):
        content, suffix = json.dumps(records, ensure_ascii=ascii_only, indent=draw(st.sampled_from([None, 1]))), ".JSON"
    else:
        end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
        content, suffix = end.join(json.dumps(record, ensure_ascii=ascii_only) for record in records), ".jsonl"
    whole = [Row(row.label, json.loads(json.dumps(row.text)), row.fault) for row in made]  # two halves may be a pair
    encoding = draw(ENCODING)
    num_bad = sum(bool(row.fault) or not clean(row.text) for row in whole)
    return Made("a" + suffix, content.encode(encoding), {}, whole, num_bad, not encoding.startswith("utf-8"))


@st.composite
def parquet_files(draw: st.DrawFn) -> Made:
    made = [Row(row.label, row.text, row.fault and "text") for row in draw(rows())]
    texts = [None if row.fault else row.text for row in made]
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array(texts, pa.string()), "label": [row.label for row in made]}), stream)
    return Made("a.Parquet", stream.getvalue(), {}, made, sum(bool(row.fault) for row in made))


Found = tuple[list[tuple[str, ...]], int]


def read(file: Path, made: Made, *, skip: bool) -> Found | CorpusError:
    """Return the rows of a file and the number of those left out, or the error."""
    data = LabelledData(train=[str(file)], **made.settings)
    bad_rows = BadRows(skip)
    try:
        found = RowReader(data, parse_columns(data.columns), bad_rows).read(data.train)
        refuse_header_as_row(found, data)
    except CorpusError as error:
        return error
    return [(*row.labels, row.text) for row in found], bad_rows.counts.total()


@given(made=tables() | tables() | json_files() | parquet_files(), packed=st.booleans(), skip=st.booleans())
@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_a_file_is_read_as_it_was_meant_or_refused(made: Made, packed: bool, skip: bool, tmp_path_factory):
    file = tmp_path_factory.mktemp("made") / (made.name + ".gz" * packed)
    file.write_bytes(gzip.compress(made.content) if packed else made.content)
    found = read(file, made, skip=skip)
    if isinstance(found, CorpusError):
        assert made.may_be_refused or (made.num_bad and not skip), found
        assert (found.exit_status, str(file) in str(found)) == (2, True)
    else:
        expected = [(clean(row.label), clean(row.text)) for row in made.rows if not row.fault and clean(row.text)]
        assert found == (expected, made.num_bad)
