"""JSON lines and JSON lists give the same records; a list is read piece by piece."""

import io
import itertools
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_dist.data import json_records
from kd_dist.data.json_records import read_json_records
from kd_dist.errors import CorpusError
from tests.data.files import write

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    records=st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=5),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_a_list_is_what_it_holds_wherever_it_is_cut(records, indent, ascii_only, tmp_path_factory):
    content = " \n" + json.dumps(records, indent=indent, ensure_ascii=ascii_only) + "\n"
    file = tmp_path_factory.mktemp("json") / "a.json"
    file.write_bytes(content.encode("utf-8", errors="replace"))
    expected = json.loads(file.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        for size in (1, 7, 1 << 16):
            patch.setattr(json_records, "CHUNK_CHARACTERS", size)
            found = list(read_json_records(file))
            assert [record.values for record in found] == expected
            assert [record.place for record in found] == [f"record {n}" for n in range(1, len(records) + 1)]


def test_blank_lines_between_objects_do_not_count(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", '\ufeff\n{"a": 1}\n\n \n{"a": 2}\n\n')
    assert list(read_json_records(file)) == [("line 2", {"a": 1}), ("line 5", {"a": 2})]
    assert list(read_json_records(write(tmp_path / "empty.json", "\n"))) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1}\n{"a": 2}]', "line 2: not JSON ('{' in place of ',')"),
        ('[\n{"a": 1},\n{"a": 2\n', "line 3: not JSON (Expecting ',' delimiter)"),
        ('[{"a": 1},]', "line 1: not JSON (Expecting value)"),
        ('[{"a": 1}', "line 1: not JSON (it ends without ',')"),
        ('[{"a": 1}]\n{"a": 2}', "line 2: not JSON ('{' after the end of the list)"),
        ('[{"a": 1}, [2]]', "record 2: a JSON list, expected an object with named fields"),
        ('{"a": 1}\n{"a"', "line 2: not JSON"),
        ('{"a": ' + "[" * 200_000, "line 1: not JSON (maximum recursion depth exceeded"),
        ('[{"a": ' + "[" * 200_000, "line 1: not JSON (maximum recursion depth exceeded"),
        ('{"a": 1}\n3', "line 2: a JSON int, expected an object with named fields"),
    ],
)
def test_what_is_not_json_is_named_with_its_place(content: str, message: str, tmp_path: Path):
    with pytest.raises(CorpusError) as error:
        list(read_json_records(write(tmp_path / "a.json", content)))
    assert str(error.value).startswith(f"{tmp_path / 'a.json'}, {message}")


def test_a_list_that_is_not_utf_8(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b'[\n{"a": "' + "天".encode("gb18030") + b'"}]')
    with pytest.raises(CorpusError, match=r"a.json, line 2: not UTF-8 text \(byte 0xcc at column 8\); convert it with"):
        list(read_json_records(tmp_path / "a.json"))


def test_a_long_list_in_one_line_is_not_in_memory_as_a_whole(tmp_path: Path):
    file = write(tmp_path / "a.json", json.dumps([{"text": "x" * 1000}] * 10_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_json_records(file)) == 10_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000  # of 10 million
    finally:
        tracemalloc.stop()


def test_a_long_item_is_not_parsed_again_for_every_piece(monkeypatch: pytest.MonkeyPatch):
    text = json_records._Text(io.StringIO('["' + "x" * 1_000_000 + '"]'))
    attempts = itertools.count()
    decoder = json.JSONDecoder()

    class Counting:
        def raw_decode(self, *arguments):
            next(attempts)
            return decoder.raw_decode(*arguments)

    monkeypatch.setattr(json_records, "_DECODER", Counting())
    assert [len(item) for item in text.items()] == [1_000_000]
    assert next(attempts) < 10


@pytest.mark.parametrize("form", ["%s", "[%s]"])
def test_half_a_surrogate_pair_is_left_out(form: str, tmp_path: Path):
    source = r'{"a\ud83d": "\uD83D天\udE00", "b": ["x\udfff", {"c": "\ud83d"}], "d": "\ud83d\ude00", "e": "\\ud83d"}'
    records = list(read_json_records(write(tmp_path / "a.json", form % source)))
    assert [record.values for record in records] == [{"a": "天", "b": ["x", {"c": ""}], "d": "😀", "e": "\\ud83d"}]


def test_lines_that_end_in_cr_alone(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\r{"a": 2}\r')
    assert list(read_json_records(tmp_path / "a.jsonl")) == [("line 1", {"a": 1}), ("line 2", {"a": 2})]
    (tmp_path / "a.jsonl").write_bytes(b'[\r{"a": 1},\r{"a"]\r')
    with pytest.raises(CorpusError, match="line 3: not JSON"):
        list(read_json_records(tmp_path / "a.jsonl"))


def test_files_that_were_joined_have_marks_inside(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", '\ufeff{"a": 1}\n\ufeff{"a": 2}\n')
    assert [record.values for record in read_json_records(file)] == [{"a": 1}, {"a": 2}]
