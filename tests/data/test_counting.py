"""Counting records: whole where files are small, else by their beginnings and sizes."""

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from kd_dist.data import counting
from kd_dist.data.counting import count_records, evenly
from kd_dist.errors import CorpusError


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "一\n二\n三\n"),
        ("open_line.tsv", "一\n二\n三"),
        ("a.jsonl.gz", '{"text": "一"}\n{"text": "二"}\n{"text": "三"}\n'),
        ("list.json", '\ufeff [{"text": "一"}, {"label": 1, "text": "二"}, {"text": "三"}]'),
        ("pretty.json", json.dumps([{"text": "一"}] * 3, indent=2)),
    ],
)
def test_small_files_are_counted_whole(name: str, content: str, tmp_path: Path) -> None:
    assert count_records([written(tmp_path / name, content.encode())], "text") == 3


def test_tables_say_how_many_rows_they_have(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["一", "二", "三"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for name, writer in (("file.arrow", pyarrow.ipc.new_file), ("stream.arrow", pyarrow.ipc.new_stream)):
        with writer(tmp_path / name, table.schema) as sink:
            sink.write_table(table)
    assert count_records(sorted(tmp_path.iterdir()), "text") == 9
    with pytest.raises(CorpusError, match="not a readable parquet file"):
        count_records([written(tmp_path / "b.parquet", b"PAR1 and no more")], "text")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_large_files_are_estimated_from_their_beginnings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"{hash(str(number))} 一行\n" for number in range(40_000))
    file = written(tmp_path / name, lines.encode())
    monkeypatch.setattr(counting, "BUDGET", 200_000)
    monkeypatch.setattr(counting, "CHUNK", 50_000)
    assert count_records([file], "text") == pytest.approx(40_000, rel=0.1)


def test_a_few_of_many_files_stand_for_all(tmp_path: Path) -> None:
    files = [written(tmp_path / f"{number:03}.txt", b"1\n" * 10 * (1 + number % 3)) for number in range(300)]
    assert len(evenly(files, counting.FILES_READ)) <= counting.FILES_READ
    assert count_records(files, "text") == pytest.approx(6000, rel=0.02)
    assert evenly(files[:3], 64) == files[:3]


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    assert count_records([written(tmp_path / "a.txt", b"")], "text") == 0
