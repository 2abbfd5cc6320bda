"""Every format gives the same documents and the same texts, and what is wrong is named with its place."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_dist.data import readers
from kd_dist.errors import CorpusError
from tests.data.files import damage, read_blocks, write, write_compressed

WAY_OUT = "choose another"

CONTENTS = ["今天天气很好。", "Ⅷ级 full-width ＡＢＣ", "第三篇"]


def texts(path: Path, *columns: str) -> list[tuple[str, ...]]:
    return list(readers.read_texts(path, columns or ["text"], WAY_OUT))


def write_records(folder: Path, records: list[dict[str, object]]) -> list[Path]:
    """The records in every format that names columns, some with suffixes in capitals."""
    table = pa.Table.from_pylist(records)
    names = table.schema.names
    rows = [[str(record[name] or "") for name in names] for record in records]
    quoted = [[f'"{cell}"' for cell in row] for row in rows]
    pq.write_table(table, folder / "a.parquet")
    with pa.ipc.new_stream(str(folder / "b.arrow"), table.schema) as stream:
        stream.write_table(table)
    with pa.ipc.new_file(str(folder / "c.ARROW"), table.schema) as file:
        file.write_table(table)
    return [
        folder / "a.parquet",
        folder / "b.arrow",
        folder / "c.ARROW",
        write(folder / "d.jsonl", "\n".join(json.dumps(record) + "\n" for record in records)),
        write(folder / "e.json", json.dumps(records, indent=1)),
        write(folder / "f.JSON", json.dumps(records, ensure_ascii=False)),
        write(folder / "g.TSV", "\n".join("\t".join(row) for row in [names, *rows])),
        write(folder / "h.csv", "\r\n".join(",".join(row) for row in [names, *quoted])),
    ]


def test_every_format_gives_the_same_documents(tmp_path: Path):
    text = write(tmp_path / "a.txt", "\n\n".join(CONTENTS))
    unknown = tmp_path / "b.text"
    unknown.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(CONTENTS).encode() + b"\r\n")
    records = write_records(tmp_path, [{"id": 1, "text": content} for content in CONTENTS])[:-2]
    expected = [["今天天气很好。"], ["VIII级 full-width ABC"], ["第三篇"]]
    for file in [text, unknown, *records]:
        for one in (file, write_compressed(file)):
            found, statistics = read_blocks(one)
            assert found == expected, one
            assert (statistics.lines_kept, statistics.documents) == (3, 3), one


def test_every_format_gives_the_same_texts(tmp_path: Path):
    first, second = ["一，二", None, "三"], ["四", "五", "六"]
    records = [{"id": 7, "a": a, "b": b} for a, b in zip(first, second, strict=True)]
    files = [*write_records(tmp_path, records), write(tmp_path / "i.txt", "一，二\t四\n\t五\n三\t六\n")]
    for file in files + [write_compressed(file) for file in files]:
        assert texts(file, "a", "b") == [("一，二", "四"), ("", "五"), ("三", "六")], file


def test_records_have_their_values_and_their_place(tmp_path: Path):
    records = [{"label": [1.5], "text": "一"}, {"label": [], "text": None}]
    for file in write_records(tmp_path, records)[:-2]:
        found = list(readers.read_records(file, ["text", "label"], WAY_OUT))
        assert [record.values for record in found] == records, file
        places = ["line 1", "line 3"] if file.suffix == ".jsonl" else ["record 1", "record 2"]
        assert [record.place for record in found] == places, file


def test_no_record_is_left_out(tmp_path: Path):
    assert texts(write(tmp_path / "a.csv", "text\n一\n\n二\n")) == [("一",), ("",), ("二",)]
    assert texts(write(tmp_path / "b.txt", "一\n\n二\n")) == [("一",), ("",), ("二",)]
    assert texts(write(tmp_path / "c.txt", "一\t二\n \n"), "a", "b") == [("一", "二"), ("", "")]


def test_a_null_in_a_table_is_an_empty_line(tmp_path: Path):
    pq.write_table(pa.table({"text": ["一", None, "二"]}), tmp_path / "a.parquet")
    found, statistics = read_blocks(tmp_path / "a.parquet")
    assert found == [["一"], ["二"]]
    assert statistics.lines_empty == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.txt",
            "好\n天气".encode() + "很好".encode("gb18030"),
            "line 2: not UTF-8 text (byte 0xba at column 3); convert",
        ),
        (
            "a.txt",
            "好".encode("utf-16"),
            "line 1: not UTF-8 text (byte 0xff at column 1); convert it with `iconv -f UTF-16",
        ),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": ', "line 3: not JSON"),
        ("a.json", b'["a"]', "record 1: a JSON str, expected an object with named fields"),
        ("a.jsonl", b'{"text": "a"}\n["a"]', "line 2: a JSON list, expected an object with named fields"),
        (
            "a.jsonl",
            b'{"title": "a", "body": "b"}',
            "line 1: no column 'text'; the columns are title, body; set data.text_field to the one",
        ),
        ("a.json", b'[{"text": "a"}, {"texts": "a"}]', "record 2: no column 'text'; the columns are texts; did you"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 3}', "line 2: 'text' holds int, expected text"),
        ("a.txt.gz", gzip.compress(os.urandom(5000).hex().encode())[:-3000], "damaged or truncated gzip"),
        ("a.json.gz", gzip.compress(b"[" + os.urandom(5000).hex().encode())[:-3000], "damaged or truncated gzip"),
        ("a.txt.GZ", b"plain text", "this is text, not gzip; take .gz off its name"),
        ("a.parquet", b"plain text, long enough", "this is text, not parquet"),
    ],
)
def test_bad_input_names_file_and_line(tmp_path: Path, name: str, content: bytes, expected: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError) as error:
        list(readers.read_lines(tmp_path / name))
    assert str(error.value).startswith(str(tmp_path / name))
    assert expected in str(error.value)


def test_a_parquet_file_with_damage_inside(tmp_path: Path):
    damage(tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a.parquet: not a readable parquet file \(Corrupt snappy"):
        list(readers.read_lines(tmp_path / "a.parquet"))


def test_bad_parquet_field_and_type_are_named(tmp_path: Path):
    pq.write_table(pa.table({"title": ["a"], "size": [1]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a.parquet: no column 'text'; the columns are title, size; set data.text_"):
        list(readers.read_lines(tmp_path / "a.parquet"))
    with pytest.raises(CorpusError, match=r"a.parquet, record 1: 'size' holds int, expected text"):
        list(readers.read_lines(tmp_path / "a.parquet", "size"))


@pytest.mark.parametrize("line", ["一", "一\t二\t三"])
def test_a_line_of_a_pair_holds_two_texts(line: str, tmp_path: Path):
    file = write(tmp_path / "a.txt", f"一\t二\n{line}\n")
    count = len(line.split("\t"))
    with pytest.raises(CorpusError, match=rf"a.txt, line 2: {count} texts with tabs between them, expected 2"):
        texts(file, "a", "b")


def test_plain_texts_are_not_tables_and_not_all_empty(tmp_path: Path):
    (tmp_path / "empty.txt").touch()
    file = write(tmp_path / "a.jsonl", "{}")
    assert readers.find_plain_texts([str(file), str(tmp_path / "empty.txt")]) == [file, tmp_path / "empty.txt"]
    with pytest.raises(CorpusError, match="there is no text in these files, all are empty"):
        readers.find_plain_texts([str(tmp_path / "empty.txt")])
    with pytest.raises(CorpusError, match=r"a.CSV: a table does not say which of its columns is the text"):
        readers.find_plain_texts([str(write(tmp_path / "a.CSV", "x,一\n"))])
