"""Texts to label are found in every form that training reads, in order, and none is left out."""

import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_dist.data.readers import Texts
from kd_dist.data.texts import TextReader, default_text_columns, parse_text_columns
from kd_dist.errors import CorpusError

PAIRS = [("体育", "今天 股市"), ("财经", '它说“好”, "真"; a|b'), ("体育", ""), ("旅游", "x" * 300)]  # label, text

TEXTS = [(text,) for _, text in PAIRS]


def read(path: Path, columns: str = "", pairs: bool = False, **settings: str | None) -> tuple[list[Texts], list[str]]:
    """The texts of a file, and the notes about it."""
    notes: list[str] = []
    found = parse_text_columns(columns.split(",")) if columns else default_text_columns(pairs)
    reader = TextReader(found, **{"header": "auto", "separator": None, "note": notes.append} | settings)
    return list(reader.read(path, is_document=False)), notes


def table(rows: Sequence[Sequence[str]], suffix: str) -> bytes:
    if suffix == ".csv":
        stream = io.StringIO()
        csv.writer(stream).writerows(rows)
        return stream.getvalue().encode()
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def content(suffix: str, names: tuple[str, str]) -> bytes:
    """The pairs in a file that names its columns."""
    records = [dict(zip(names, row, strict=True)) for row in PAIRS]
    if suffix in (".tsv", ".csv"):
        return table([names, *PAIRS], suffix)
    if suffix == ".json":
        return json.dumps(records).encode()
    if suffix == ".jsonl":
        return "".join(json.dumps(record) + "\n" for record in records).encode()
    rows, stream = pa.Table.from_pylist(records), io.BytesIO()
    if suffix == ".parquet":
        pq.write_table(rows, stream)
    else:
        with pa.ipc.new_stream(stream, rows.schema) as writer:
            writer.write_table(rows)
    return stream.getvalue()


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".json", ".jsonl", ".parquet", ".arrow"])
@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("label", "text"), ""),
        (("label", "text"), "text"),
        (("label", "text"), "label,text"),
        (("category", "title"), "title"),
        (("category", "title"), "text:title"),
        (("category", "title"), "text:title,label:category"),
        (("toxic", "title"), "text:title,labels:*"),
    ],
)
def test_columns_by_name(names: tuple[str, str], columns: str, suffix: str, packed: str, tmp_path: Path) -> None:
    path = tmp_path / f"in{suffix}{packed}"
    path.write_bytes(gzip.compress(content(suffix, names)) if packed else content(suffix, names))
    if columns == "text" and suffix in (".tsv", ".csv"):
        columns = "-,text"  # describes all columns, in order
    assert read(path, columns) == (TEXTS, [])


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".txt"])
@pytest.mark.parametrize("header", ["auto", "no"])
@pytest.mark.parametrize(
    ("columns", "order"),
    [("label,text", (0, 1)), ("text,label", (1, 0)), ("-,text", (0, 1)), ("-,-,text", (0, 0, 1))],
)
def test_columns_in_order_without_a_header(
    columns: str, order: tuple[int, ...], header: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"in{suffix}"
    path.write_bytes(table([[row[place] for place in order] for row in PAIRS], suffix))
    texts, notes = read(path, columns, header=header)
    assert texts == TEXTS
    said = f"{path}, line 1 is taken for a text, not for a header; --header yes or no decides"
    assert notes == ([said] if header == "auto" else [])


def test_a_column_of_texts_alone(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("一\n\n二\n", encoding="utf-8")
    for columns, header in (("text", "auto"), ("text", "no"), ("", "no")):
        assert read(tmp_path / "in.tsv", columns, header=header)[0] == [("一",), ("",), ("二",)]
    with pytest.raises(CorpusError, match=r"no column 'text'; the columns are 一; .*--columns label,text"):
        read(tmp_path / "in.tsv")


@pytest.mark.parametrize("columns", ["text,text_pair", "text_pair,text", "label,text,text_pair", "-,text_pair,text"])
@pytest.mark.parametrize("has_header", [False, True])
def test_pairs(columns: str, has_header: bool, tmp_path: Path) -> None:
    roles = columns.split(",")
    cells = {"text": "一", "text_pair": "二", "label": "三", "-": "四"}
    rows = [roles] * has_header + [[cells[role] for role in roles]] * 2
    (tmp_path / "in.tsv").write_bytes(table(rows, ".tsv"))
    assert read(tmp_path / "in.tsv", columns)[0] == [("一", "二")] * 2


@pytest.mark.parametrize("columns", ["", "text", "title"])
def test_plain_text_has_no_columns(columns: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("text\n\n一\t二\n", encoding="utf-8")
    assert read(tmp_path / "in.txt", columns) == ([("text",), ("",), ("一\t二",)], [])


@pytest.mark.parametrize("columns", ["", "text,text_pair", "question,answer"])
def test_pairs_in_plain_text_have_a_tab_between_them(columns: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("一\t二\n\n", encoding="utf-8")
    assert read(tmp_path / "in.txt", columns, pairs=True)[0] == [("一", "二"), ("", "")]


def test_empty_lines_and_cells_are_texts(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("\na\t一\n\nb\t\n", encoding="utf-8")
    assert read(tmp_path / "in.tsv", "label,text")[0] == [("",), ("一",), ("",), ("",)]
    (tmp_path / "in.tsv").write_text("label\ttext\na\t一\n\nb\n", encoding="utf-8")
    assert read(tmp_path / "in.tsv", "label,text")[0] == [("一",), ("",), ("",)]


def test_a_separator(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("label;text\na;一,二\n", encoding="utf-8")
    assert read(tmp_path / "in.csv", "label,text", separator=";")[0] == [("一,二",)]
    assert read(tmp_path / "in.csv", "", separator=";", header="yes")[0] == [("一,二",)]
    (tmp_path / "in.txt").write_text("a||一\nb||二\n", encoding="utf-8")
    assert read(tmp_path / "in.txt", "label,text", separator="||")[0] == [("一",), ("二",)]
    with pytest.raises(CorpusError, match=r"seem to be separated by '\|\|', expected tabs; set data.separator="):
        read(tmp_path / "in.txt", "label,text")


def test_a_document_is_one_text(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("一\n\n二\n", encoding="utf-8")
    reader = TextReader(default_text_columns(pairs=False), "auto", None, print)
    assert list(reader.read(tmp_path / "1.txt", is_document=True)) == [("一\n\n二",)]
    reader = TextReader(default_text_columns(pairs=True), "auto", None, print)
    with pytest.raises(CorpusError, match="1.txt: a document is one text, expected the two of a pair"):
        list(reader.read(tmp_path / "1.txt", is_document=True))


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("a\t一\nb\n", "label,text", r"in.tsv, line 2: 1 columns, expected 2"),
        ("a\t一\tx\n", "label,text", r"in.tsv, line 1: 3 columns, expected 2 \(put - in --columns"),
        ("Text\tLabel\na\t一\n", "label,text", r"in.tsv, line 1: no column 'text' in the header \(Text, Label\)"),
        ("a\t一\n", "text:title,label", r"line 1: no column 'title' in the header"),
        ("label\ttext\na\tb\tc\n", "label,text", r"in.tsv, line 2: 3 columns, expected 2 as in the header"),
    ],
)
def test_other_columns_are_refused(text: str, columns: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        read(tmp_path / "in.tsv", columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("a,b,c", "--columns a,b,c: name one column, or the two of a pair, or describe all"),
        ("label", "--columns label: name `text` once"),
        ("text,text", "--columns text,text: name `text` once"),
        ("text_pair,label", "--columns text_pair,label: name `text` once"),
    ],
)
def test_columns_that_do_not_say_where_the_texts_are(columns: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        parse_text_columns(columns.split(","))


CELL = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Co"]), max_size=20)


@given(
    texts=st.lists(CELL, min_size=1, max_size=30),
    suffix=st.sampled_from([".tsv", ".csv"]),
    columns=st.sampled_from(["label,text", "text,label", "-,text,-", "text:title,label:category"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_texts_all_come_back_in_order(
    texts: list[str], suffix: str, columns: str, end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    roles = [entry.partition(":")[0] for entry in columns.split(",")]
    names = [[entry.partition(":")[2] for entry in columns.split(",")]] * (":" in columns)
    rows = [[text if role == "text" else "L" for role in roles] for text in texts]
    path = tmp_path_factory.mktemp("texts") / f"in{suffix}"
    path.write_bytes(table(names + rows, suffix).replace(b"\r\n", b"\n").replace(b"\n", end.encode()))
    assert read(path, columns, header="auto" if names else "no")[0] == [(text,) for text in texts]
