"""Every format gives the same rows, columns are found by place or by name, and what is wrong is named with its line."""

import gzip
import json
import math
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.columns import parse_columns
from kd_dist.data.discovery import labelled_files
from kd_dist.data.labelled_rows import BadRows, RawRow, RowReader, refuse_header_as_row, refuse_swapped_columns
from kd_dist.errors import CorpusError
from tests.data.files import damage, write

ROWS = [("好", "今天天气很好。", "a"), ("坏", '"他说', "b"), ("好", "Ａ,b", "c")]
EXPECTED = [("好", "今天天气很好。"), ("坏", '"他说'), ("好", "A,b")]


def read(*files: Path, skip: bool = False, **settings: object) -> tuple[list[RawRow], BadRows]:
    data = LabelledData(train="-", **settings)
    bad_rows = BadRows(skip)
    return RowReader(data, parse_columns(data.columns), bad_rows).read([str(file) for file in files]), bad_rows


def found(*files: Path, **settings: object) -> list[tuple[str, ...]]:
    return [(*row.labels, *filter(None, row.key)) for row in read(*files, **settings)[0]]


def message_of(*files: Path, **settings: object) -> str:
    with pytest.raises(CorpusError) as error:
        read(*files, **settings)
    return str(error.value)


def test_importing_is_cheap():
    code = "import sys, kd_dist.data.labelled; print({'torch', 'transformers', 'datasets', 'pyarrow'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


# -------------------------------------------------------------------------------------------------------------- formats


def test_every_format_gives_the_same_rows(tmp_path: Path):
    records = [{"other": other, "text": text, "label": label} for label, text, other in ROWS]
    quoted = "".join(f'{label},"{text.replace(chr(34), chr(34) * 2)}"\n' for label, text, _ in ROWS)
    files = [
        write(tmp_path / "a.tsv", "".join(f"{label}\t{text}\n" for label, text, _ in ROWS)),
        write(tmp_path / "b.txt", "other\ttext\tlabel\n" + "".join(f"{o}\t{t}\t{label}\n" for label, t, o in ROWS)),
        write(tmp_path / "c.csv", quoted),
        write(tmp_path / "d.csv", "label,text\n" + quoted),
        write(tmp_path / "e.jsonl", "".join(json.dumps(record) + "\n\n" for record in records)),
        write(tmp_path / "f.json", "\n" + json.dumps(records, indent=1)),
        tmp_path / "g.parquet",
        tmp_path / "h.Arrow",
    ]
    table = pa.Table.from_pylist(records)
    pq.write_table(table, files[-2])
    with pa.ipc.new_stream(str(files[-1]), table.schema) as stream:
        stream.write_table(table)
    for file in files:
        packed = tmp_path / f"{file.name}.gz"
        packed.write_bytes(gzip.compress(file.read_bytes()))
        assert found(file) == found(packed) == EXPECTED, file
    assert found(*files) == EXPECTED * len(files)
    assert found(files[0].rename(tmp_path / "A.TSV")) == EXPECTED


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path):
    for name, separator in (("a.tsv", "\t"), ("b.csv", ",")):
        file = tmp_path / name
        content = f"label{separator}text\r\n好{separator}天气\r\n\r\n坏{separator}很好\r\n"
        file.write_bytes(b"\xef\xbb\xbf" + content.encode())
        assert found(file) == [("好", "天气"), ("坏", "很好")]


def test_lines_that_end_in_cr_alone(tmp_path: Path):
    for name, separator in (("a.tsv", "\t"), ("b.csv", ","), ("c.csv.gz", ",")):
        content = f"label{separator}text\r好{separator}天气\r坏{separator}很好\r".encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        assert found(tmp_path / name) == [("好", "天气"), ("坏", "很好")]


def test_halves_of_surrogate_pairs_make_no_labels(tmp_path: Path):
    file = write(
        tmp_path / "a.jsonl", r'{"label": "科技\ud83d", "text": "一\ude00"}' + '\n{"label": "科技", "text": "二"}'
    )
    assert found(file) == [("科技", "一"), ("科技", "二")]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt"])
@pytest.mark.parametrize("separator", [";", "||", "_!_"])
def test_a_separator_that_is_set_or_found(name: str, separator: str, tmp_path: Path):
    file = write(tmp_path / name, f"label{separator}text\n好{separator}天气\n坏{separator}很好\n")
    assert found(file, separator=separator) == [("好", "天气"), ("坏", "很好")]
    for settings in ({}, {"skip": True}):
        assert f"set data.separator='{separator}'" in message_of(file, **settings)


def test_the_header_of_a_file_that_was_joined_is_no_row(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "label\ttext\nx\t一\n\ufefflabel\ttext\ny\t二\n")
    rows, bad_rows = read(file, skip=True)
    assert ([row.text for row in rows], bad_rows.counts) == (["一", "二"], {"repeated header": 1})
    assert f"{file}, line 3: the header again, as in files that were joined" in message_of(file)


def test_csv_cells_may_hold_commas_quotes_and_lines(tmp_path: Path):
    file = write(tmp_path / "a.csv", '1,"one, ""two""\nthree"\n0,four\n')
    rows, _ = read(file)
    assert [(row.text, row.place) for row in rows] == [('one, "two" three', "line 1"), ("four", "line 3")]


def test_a_quote_in_tsv_is_a_character(tmp_path: Path):
    file = write(tmp_path / "a.tsv", '1\t"open\n0\tsay "x"\n')
    assert found(file) == [("1", '"open'), ("0", 'say "x"')]


def test_labels_of_every_kind(tmp_path: Path):
    pq.write_table(pa.table({"label": [1.0, 0.0], "text": ["一", "二"]}), tmp_path / "a.parquet")
    assert found(tmp_path / "a.parquet") == [("1", "一"), ("0", "二")]
    lines = write(tmp_path / "b.jsonl", '{"label": ["x", 2, "x"], "text": "一"}\n{"label": "y | z", "text": "二"}\n')
    assert [row.labels for row in read(lines, task="multi_label")[0]] == [("x", "2"), ("y", "z")]
    none = write(tmp_path / "c.csv", "label,text\n,一\na;b,二\n")
    rows, _ = read(none, task="multi_label", label_separator=";")
    assert [row.labels for row in rows] == [(), ("a", "b")]
    assert "line 1: 2 labels, expected one" in message_of(
        write(tmp_path / "d.jsonl", '{"label": [1, 2], "text": "一"}')
    )


def test_a_folder_for_each_class(tmp_path: Path):
    write(tmp_path / "tree" / "体育" / "1.txt", "标题\n\n正文\n")
    write(tmp_path / "tree" / "体育" / "deep" / "2", "\ufeff第二\r\n")
    write(tmp_path / "tree" / "财经" / "1.txt", "股票")
    write(tmp_path / "tree" / "财经" / ".hidden", "x")
    write(tmp_path / "tree" / "财经" / ".ipynb_checkpoints" / "1.txt", "y")
    write(tmp_path / "tree" / ".cache" / "index.json", "[]")
    write(tmp_path / "tree" / "README.txt", "about")
    assert found(tmp_path / "tree") == [("体育", "标题 正文"), ("体育", "第二"), ("财经", "股票")]
    write(tmp_path / "tables" / "part" / "a.tsv", "x\t一\n")
    write(tmp_path / "tables" / ".ipynb_checkpoints" / "a.tsv", "x\t一\n")
    assert labelled_files([str(tmp_path / "tables")]) == [(tmp_path / "tables" / "part" / "a.tsv", None)]


def test_files_are_read_once(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "x\t一\n")
    assert found(file, tmp_path, tmp_path / "*.tsv") == [("x", "一")]


# -------------------------------------------------------------------------------------------------------------- columns


def test_columns_by_place(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "7\tx\t一\t二\n8\ty\t三\t四\n")
    assert found(file, columns="-,label,text,text_pair") == [("x", "一", "二"), ("y", "三", "四")]
    assert found(file, columns="-,-,text,label") == [("二", "一"), ("四", "三")]


@pytest.mark.parametrize("header", ["auto", "yes"])
def test_columns_by_name(tmp_path: Path, header: str):
    file = write(tmp_path / "a.tsv", "id\t#1 String\tlabel\t#2 String\n1\t一\tx\t二\n")
    columns = "text:#1 String,text_pair:#2 String,label"
    assert found(file, columns=columns, header=header) == [("x", "一", "二")]


def test_a_header_can_be_denied(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "label\t标签\n")
    assert found(file, header="no") == [("label", "标签")]
    assert "rules out" in message_of(file, header="no", columns="label,text:content")


def header_message(file: Path, **settings: object) -> str | None:
    rows, _ = read(file, **settings)
    try:
        refuse_header_as_row(rows, LabelledData(train="-", **settings))
    except CorpusError as error:
        return str(error)
    return None


def test_a_header_that_would_be_a_row(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "category\tsentence\nx\t一\ny\t二\n")
    message = header_message(file)
    assert message is not None
    assert f"{file}, line 1: no other row has the label 'category', so this looks like a header" in message
    assert "(data.columns=label:NAME,text:NAME), or set data.header=no" in message
    assert header_message(file, task="multi_label")
    assert header_message(file, header="no") is None
    assert header_message(file, columns="label:category,text:sentence") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "x\t一\ny\t二\nx\t三\n"),
        ("a.tsv", "x\t一\ny\t二\n"),  # too few to tell
        ("a.jsonl", '{"label": "z", "text": "一"}\n' + '{"label": "x", "text": "二"}\n' * 2),
    ],
)
def test_a_first_row_that_is_no_header(name: str, content: str, tmp_path: Path):
    assert header_message(write(tmp_path / name, content)) is None


def test_documents_have_no_header(tmp_path: Path):
    for label in "xyz":
        write(tmp_path / label / "1.txt", f"{label}\n" * 3)
    assert header_message(tmp_path) is None


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("name", "content", "columns", "expected"),
    [
        ("a.tsv", "sentence\tlabel\n一\tx", "label,text", "line 1: no column 'text' in the header (sentence, label)"),
        ("a.tsv", "Label\tText\nx\t一", "label,text", "'label' in the header (Label, Text); did you mean `Label`?"),
        ("a.csv", "label,bodies\nx,一", "label,text:body", "no column 'body' in the header (label, bodies); did you"),
        ("a.tsv", "x\t一\nx", "label,text", "line 2: 1 columns, expected 2"),
        ("a.tsv", "x\t一\n\nx\t二\t三", "label,text", "line 3: 3 columns, expected 2 (put -"),
        ("a.tsv", "x\t一\ny\t \u200b", "label,text", "line 2: 'text' is empty"),
        ("a.tsv", "x\t一\n \t二", "label,text", "line 2: 0 labels, expected one"),
        ("a.tsv", "x\t一\n\t\ny\t二", "label,text", "line 2: 'text' is empty"),
        ("a.csv", 'x,一\nx,"二', "label,text", "line 2: not csv (unexpected end of data)"),
        ("a.json", '[{"label": 1, "text": "一"}, {"label": 1}]', "label,text", "record 2: no column 'text'"),
        (
            "a.jsonl",
            '{"label": 1, "bodi": ""}',
            "label,text:body",
            "no column 'body'; the columns are label, bodi; did you",
        ),
        ("a.jsonl", '{"label": 1, "text": 3}', "label,text", "line 1: 'text' holds int, expected text"),
        ("a.jsonl", '{"label": null, "text": "一"}', "label,text", "line 1: no value in 'label'"),
        ("a.jsonl", '{"label": 1, "text": "一"}\n{"label"', "label,text", "line 2: not JSON"),
        ("a.json", '["一"]', "label,text", "record 1: a JSON str, expected an object"),
        ("a.tsv", "\n\n", "label,text", "no labelled row in"),
    ],
)
def test_bad_input_names_file_and_line(tmp_path: Path, name: str, content: str, columns: str, expected: str):
    message = message_of(write(tmp_path / name, content), columns=columns)
    assert str(tmp_path / name) in message
    assert expected in message


@pytest.mark.parametrize("label", [math.nan, math.inf, {"a": 1}, [None, "a"], ["a", ["b"]], ["a", math.nan]])
def test_labels_that_are_neither_names_nor_numbers(label: object, tmp_path: Path):
    row = {"label": label, "text": "一"}
    file = write(tmp_path / "a.jsonl", f'{{"label": "x", "text": "零"}}\n{json.dumps(row)}\n')
    message = f"{file}, line 2: 'label' holds {label!r}, expected a name or a finite number"
    assert message in message_of(file, task="multi_label")
    rows, bad_rows = read(file, skip=True)
    assert ([row.labels for row in rows], bad_rows.counts) == ([("x",)], {"not a label": 1})


def test_labels_that_are_whole_numbers_or_truths(tmp_path: Path):
    lines = [json.dumps({"label": label, "text": "一"}) for label in (True, 3, 2.0, 0.5, [1.0, "a"])]
    rows, _ = read(write(tmp_path / "a.jsonl", "\n".join(lines)), task="multi_label")
    assert [row.labels for row in rows] == [("True",), ("3",), ("2",), ("0.5",), ("1", "a")]


def test_files_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "a.tsv").write_bytes("好\t天气".encode("utf-16"))
    assert "a.tsv, line 1: not UTF-8 text (byte 0xff at column 1); convert it with `iconv -f UTF-16" in message_of(
        tmp_path / "a.tsv"
    )
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x,y\n" * 9999)[:-20])
    assert "a.csv.gz: damaged or truncated gzip" in message_of(tmp_path / "a.csv.gz")
    (tmp_path / "a.parquet").write_bytes(b"plain text, long enough")
    assert "a.parquet: this is text, not parquet; give it the suffix of its format" in message_of(
        tmp_path / "a.parquet"
    )
    pq.write_table(pa.table({"labels": [1], "text": ["一"]}), tmp_path / "b.parquet")
    assert "no column 'label'; the columns are labels, text; did you mean `labels`?" in message_of(
        tmp_path / "b.parquet"
    )
    damage(tmp_path / "c.parquet", {"label": "x"})
    assert "c.parquet: not a readable parquet file" in message_of(tmp_path / "c.parquet")
    assert "no text file matches" in message_of(tmp_path / "missing.tsv")


def test_class_folders_that_cannot_be_used(tmp_path: Path):
    write(tmp_path / "tree" / "体育" / "1.txt", "\n")
    assert "1.txt, line 1: 'text' is empty" in message_of(tmp_path / "tree")
    (tmp_path / "tree" / "空").mkdir()
    assert "空: a class without a document" in message_of(tmp_path / "tree")


def test_bad_rows_are_skipped_and_counted(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "x\t一\nx\nx\t \ny\t二\t三\n\t四\nz\t五\n")
    rows, bad_rows = read(file, skip=True)
    assert [row.text for row in rows] == ["一", "五"]
    assert bad_rows.counts == {"missing column": 1, "empty text": 1, "too many columns": 1, "no single label": 1}
    assert "(1 bad ones left out)" in message_of(write(tmp_path / "b.tsv", "x\n"), skip=True)


def test_a_text_of_a_million_characters(tmp_path: Path):
    long = "天" * 1_000_000
    files = [write(tmp_path / "a.csv", f'x,"{long}"\n'), write(tmp_path / "b.tsv", f"x\t{long}\n")]
    assert [row.text for row in read(*files)[0]] == [long, long]


# --------------------------------------------------------------------------------------------------- labels of any kind


def test_labels_are_cleaned_as_texts_are(tmp_path: Path):
    table = write(tmp_path / "a.csv", "财经\u200b,一\n\ufeff财经,二\nＡ\u3000股,三\n财经 ,四\n")
    records = write(tmp_path / "b.jsonl", '{"label": "财\\ud800经", "text": "五"}\n')
    document = write(tmp_path / "tree" / "财经\u200b" / "1.txt", "六")
    rows, _ = read(table, records, document.parents[1])
    assert [row.labels for row in rows] == [("财经",), ("财经",), ("A 股",), ("财经",), ("财经",), ("财经",)]
    rows, _ = read(write(tmp_path / "c.tsv", "a\u200b|\ufeff|a\t一\n"), task="multi_label")
    assert rows[0].labels == ("a",)
    assert "line 1: 0 labels, expected one" in message_of(write(tmp_path / "d.tsv", "\u200b\t一\n"))


ONE_HOT = "id,comment,toxic,threat,rude\u200b\n7,一,0,0,1\n8,二,1,0,1.0\n9,三,False,0, 0\n"


def test_a_column_for_each_label(tmp_path: Path):
    table = write(tmp_path / "a.csv", ONE_HOT)
    records = [
        {"id": 7, "comment": "一", "toxic": 0, "threat": 0, "rude": 1},
        {"id": 8, "comment": "二", "toxic": True, "threat": False, "rude": 1.0},
        {"id": 9, "comment": "三", "toxic": 0, "threat": 0, "rude": "0"},
    ]
    lines = write(tmp_path / "b.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    numbers = {"id": [7, 8, 9], "comment": ["一", "二", "三"], "toxic": [False, True, False], "threat": [0, 0, 0]}
    pq.write_table(pa.table(numbers | {"rude": [1.0, 1.0, 0.0]}), tmp_path / "c.parquet")
    for file in (table, lines, tmp_path / "c.parquet"):
        rows, _ = read(file, task="multi_label", columns="text:comment,labels:*,-:id")
        assert [(row.text, row.labels) for row in rows] == [("一", ("rude",)), ("二", ("toxic", "rude")), ("三", ())]
        rows, _ = read(file, task="multi_label", columns="text:comment,labels:toxic,labels:threat")
        assert [row.labels for row in rows] == [(), ("toxic",), ()]


def test_a_column_for_each_label_of_one(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "text\ta\tb\n一\t1\t0\n二\t0\t1\n")
    assert found(file, columns="text,labels:*") == [("a", "一"), ("b", "二")]
    message = message_of(write(tmp_path / "b.tsv", "text\ta\tb\n一\t1\t1\n"), columns="text,labels:*")
    assert "line 2: 2 labels, expected one (data.task=single_label; multi_label takes any number)" in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,a,id\n一,1,x7\n", "line 2: the label 'id' holds 'x7', expected 0 or 1 (-:id in data.columns"),
        ("a.csv", "text,a,b\n一,1,\n", "line 2: the label 'b' holds '', expected 0 or 1"),
        ("a.csv", "text,a,b\n一,1,-1\n", "line 2: the label 'b' holds '-1', expected 0 or 1"),
        ("a.csv", "text,a,b\n一,1\n", "line 2: 2 columns, expected 3"),
        ("a.jsonl", '{"text": "一", "a": null}', "line 1: the label 'a' holds None, expected 0 or 1"),
        ("a.jsonl", '{"text": "一", "a": [1]}', "line 1: the label 'a' holds [1], expected 0 or 1"),
    ],
)
def test_columns_that_are_no_labels(name: str, content: str, message: str, tmp_path: Path):
    assert message in message_of(write(tmp_path / name, content), columns="text,labels:*", task="multi_label")


def test_a_header_of_a_column_for_each_label_leads_on(tmp_path: Path):
    message = message_of(write(tmp_path / "a.csv", "comment,a,b\n一,1,0\n"))
    assert (
        "line 1: 3 columns, expected 2 (put - in data.columns for each that is not used); if this is a head" in message
    )
    assert "where every label has a column of its own, text:NAME,labels:*" in message


def test_documents_without_a_label_are_left_out_and_counted(tmp_path: Path):
    for name in ("pos/1.txt", "unsup/1.txt", "unsup/2.txt"):
        write(tmp_path / name, "一")
    rows, bad_rows = read(tmp_path)
    assert [row.labels for row in rows] == [("pos",)]
    assert bad_rows.counts == {"document in a folder 'unsup', which is no class": 2}


# --------------------------------------------------------------------------------------------- columns in another order


def swapped_message(file: Path, **settings: object) -> str:
    rows, _ = read(file, **settings)
    data = LabelledData(train="-", **settings)
    with pytest.raises(CorpusError) as error:
        refuse_swapped_columns(rows, data, parse_columns(data.columns))
    return str(error.value)


def test_labels_in_place_of_texts(tmp_path: Path):
    file = write(tmp_path / "a.txt", "".join(f"新闻{number}\t{number % 3}\n" for number in range(12)))
    message = swapped_message(file)
    assert f"{file}, line 1: the label is '新闻0', the text '0'; of 12 rows 12 labels and 3 texts differ" in message
    assert message.endswith("set data.columns=text,label")
    pairs = write(tmp_path / "b.tsv", "".join(f"甲{number}\t乙{number}\t{number % 2}\n" for number in range(8)))
    assert swapped_message(pairs, columns="label,text,text_pair").endswith("set data.columns=text,text_pair,label")
    lines = [json.dumps({"label": f"新闻{number}", "text": str(number % 2)}) + "\n" for number in range(8)]
    records = write(tmp_path / "c.jsonl", "".join(lines))
    assert swapped_message(records).endswith("set data.columns=text:label,label:text")
    scores = write(
        tmp_path / "d.tsv", "sentence\tscore\n" + "".join(f"新闻{number}\t0.{number}\n" for number in range(8))
    )
    assert swapped_message(scores, task="regression").endswith("set data.columns=text,label")


@pytest.mark.parametrize(
    "rows",
    [
        [(f"类{number // 2}", f"新闻{number}") for number in range(40)],  # many labels, two rows each
        [(f"类{number}", f"新闻{number}") for number in range(40)],  # nothing but labels of one row
        [(f"类{number % 2}", "转发微博") for number in range(40)],  # texts that are all alike
        [("a", "一"), ("b", "一"), ("c", "一")],  # too few to tell
    ],
)
def test_labels_in_their_place(rows: list[tuple[str, str]], tmp_path: Path):
    file = write(tmp_path / "a.tsv", "".join(f"{label}\t{text}\n" for label, text in rows))
    read_rows, _ = read(file)
    assert [(*row.labels, row.text) for row in read_rows] == rows
    data = LabelledData(train="-")
    refuse_swapped_columns(read_rows, data, parse_columns(data.columns))
