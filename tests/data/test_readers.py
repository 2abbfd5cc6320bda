"""Every format gives the same lines, cleaning and de-duplication lose nothing, and errors name file and line."""

import gzip
import json
import os
import random
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_dist.data import blocks, cleaning, discovery, readers
from kd_dist.data.blocks import TextStatistics
from kd_dist.data.deduplication import SeenHashes
from kd_dist.errors import CorpusError


def read_blocks(*files: Path, text_field: str = "text") -> tuple[list[list[str]], TextStatistics]:
    statistics = TextStatistics()
    return list(blocks.blocks(files, text_field, statistics)), statistics


def write_compressed(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def damage(path: Path, columns: dict[str, str] | None = None) -> None:
    """Write a table of texts, of which a few compressed bytes are others: pyarrow calls that an OSError."""
    contents = [f"{number}{'天气' * 50}" for number in range(200)]
    more = {name: [value] * len(contents) for name, value in (columns or {}).items()}
    pq.write_table(pa.table({"text": contents} | more), path, compression="snappy", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[650:680] = b"\xff" * 30
    path.write_bytes(content)


# -------------------------------------------------------------------------------------------------------------- reading


def test_every_format_gives_the_same_documents(tmp_path: Path):
    contents = ["今天天气很好。", "Ⅷ级 full-width ＡＢＣ", "第三篇"]
    text, unknown, lines, table = (tmp_path / name for name in ("a.txt", "b.text", "c.jsonl", "d.parquet"))
    text.write_text("\n\n".join(contents), encoding="utf-8")
    unknown.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(contents).encode() + b"\r\n")
    lines.write_text("".join(json.dumps({"id": 1, "text": t}) + "\n" for t in contents), encoding="utf-8")
    pq.write_table(pa.table({"id": [1, 2, 3], "text": contents}), table)
    json_file = tmp_path / "e.json"
    json_file.write_bytes(lines.read_bytes())
    files = [text, unknown, lines, table, json_file]
    expected = [["今天天气很好。"], ["VIII级 full-width ABC"], ["第三篇"]]
    for file in files + [write_compressed(file) for file in files]:
        found, statistics = read_blocks(file)
        assert found == expected, file
        assert (statistics.lines_kept, statistics.documents) == (3, 3), file


def test_a_null_in_a_table_is_an_empty_line(tmp_path: Path):
    pq.write_table(pa.table({"text": ["一", None, "二"]}), tmp_path / "a.parquet")
    found, statistics = read_blocks(tmp_path / "a.parquet")
    assert found == [["一"], ["二"]]
    assert statistics.lines_empty == 1


def test_find_files_expands_globs_and_folders_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("b.txt", "a.txt", "sub/c.jsonl.gz", "sub/d.parquet", "sub/picture.png", "e.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert discovery.find_files(["*.txt", "sub", "e.log", str(tmp_path / "a.txt")]) == [
        Path(name) for name in ("a.txt", "b.txt", "sub/c.jsonl.gz", "sub/d.parquet", "e.log")
    ]


def test_hidden_files_and_folders_are_left_alone(tmp_path: Path):
    for name in ("a.txt", ".b.txt", ".ipynb_checkpoints/a.txt", "sub/.cache/c.txt", "sub/d.txt"):
        (tmp_path / ".data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".data" / name).touch()
    found = discovery.find_files([str(tmp_path / ".data")])
    assert found == [tmp_path / ".data" / "a.txt", tmp_path / ".data" / "sub" / "d.txt"]


def test_find_files_names_every_bad_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "good.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError) as error:
        discovery.find_files(["good.txt", "*.jsonl", "empty", "missing.txt"])
    for name in ("'*.jsonl'", "'empty'", "'missing.txt'", str(tmp_path)):
        assert name in str(error.value)
    assert "good.txt" not in str(error.value)


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
        ("a.json", b'[{"text": "a"}]', "line 1: a JSON list; every line must be one whole JSON object"),
        ("a.jsonl", b'{"title": "a", "body": "b"}', "line 1: no field 'text'; the fields are title, body"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 3}', "line 2: the field 'text' holds int"),
        ("a.txt.gz", gzip.compress(os.urandom(5000).hex().encode())[:-3000], "damaged or truncated gzip"),
        ("a.txt.gz", b"plain text", "damaged or truncated gzip"),
        ("a.parquet", b"plain text, long enough", "not a readable parquet file"),
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
    with pytest.raises(CorpusError, match=r"a.parquet, line 1: no field 'text'; the fields are title, size"):
        list(readers.read_lines(tmp_path / "a.parquet"))
    with pytest.raises(CorpusError, match=r"a.parquet, line 1: the field 'size' holds int"):
        list(readers.read_lines(tmp_path / "a.parquet", "size"))


# ------------------------------------------------------------------------------------------ cleaning, blocks, sentences


def test_clean_folds_and_removes():
    assert cleaning.clean("\ufeff Ａ１\u3000①\t好\u200b的\x00，\r\n\ud800x\u00ad  ") == "A1 1 好的, x"


def test_the_invisible_characters_are_the_unicode_categories():
    for character in map(chr, range(0x110000)):
        category = unicodedata.category(character)
        if category != "Cn":  # not assigned in this Python's Unicode version, perhaps in a later one
            invisible = category in ("Cc", "Cf", "Cs") and not character.isspace()
            assert bool(cleaning.INVISIBLE.match(character)) == invisible, hex(ord(character))


@given(st.text())
@settings(deadline=None, max_examples=200)
def test_clean_twice_is_clean_once(text: str):
    once = cleaning.clean(text)
    assert cleaning.clean(once) == once
    once.encode()


def test_split_sentences():
    text = '他说:"走吧!"她没动。真的?! 3.14 is e.g. pi. End… "Yes." Then...好;完'
    expected = [
        '他说:"走吧!"',
        "她没动。",
        "真的?! ",
        "3.14 is e.g. ",
        "pi. ",
        "End… ",
        '"Yes." ',
        "Then...",
        "好;",
        "完",
    ]
    assert cleaning.split_sentences(text) == expected


@given(st.text(alphabet='a.。!?;…"”) 好\n', max_size=60))
@settings(deadline=None, max_examples=200)
def test_sentences_join_to_the_text(text: str):
    sentences = cleaning.split_sentences(text)
    assert "".join(sentences) == text
    assert all(sentences)


def test_duplicates_and_borders_are_counted(tmp_path: Path):
    (tmp_path / "a.txt").write_text("一\n二\n一\n \n\n三\nＡ\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("A\n四\n\n二\n", encoding="utf-8")
    found, statistics = read_blocks(tmp_path / "a.txt", tmp_path / "b.txt")
    assert found == [["一", "二"], ["三", "A"], ["四"]]
    assert statistics == TextStatistics(
        lines_read=11, lines_empty=3, lines_duplicate=3, lines_kept=5, characters=5, documents=3
    )


def test_blocks_are_bounded_but_keep_a_long_line(tmp_path: Path):
    lines = (
        [f"第{number}行" for number in range(300)]
        + ["长" * 10_000 + str(number) for number in range(5)]
        + ["巨" * 50_000]
    )
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    found, statistics = read_blocks(tmp_path / "a.txt")
    assert [len(block) for block in found] == [256, 46, 2, 1, 1]
    assert [line for block in found for line in block] == lines
    assert statistics.documents == 1


def test_reading_ends_after_the_lines_that_were_asked_for(tmp_path: Path):
    (tmp_path / "a.txt").write_text("一\n二\n三\n四\n", encoding="utf-8")
    statistics = TextStatistics()
    files = [tmp_path / "a.txt", tmp_path / "missing.txt"]
    assert list(blocks.blocks(files, "text", statistics, max_lines=3)) == [["一", "二", "三"]]
    assert statistics.lines_read == 3


def test_seen_hashes_agree_with_a_set():
    rng = random.Random(1)
    seen, expected = SeenHashes(newest_size=50), set()
    for _ in range(60):
        batch = [str(rng.randrange(3000)) for _ in range(rng.randrange(80))]
        fresh = []
        for text in batch:
            fresh.append(text not in expected)
            expected.add(text)
        assert seen.unseen(batch) == fresh
    assert sum(map(len, seen._runs)) + len(seen._newest) == len(expected)
    assert len(seen._runs) < 8
