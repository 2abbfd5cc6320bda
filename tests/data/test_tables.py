"""Parquet and Arrow tables give their rows in order, and damage inside is noticed."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_dist.data.tables import read_arrow, read_parquet
from kd_dist.errors import CorpusError
from tests.data.files import damage, write_compressed


def write_both_forms(folder: Path, table: pa.Table, rows: int) -> list[Path]:
    """An Arrow stream and an Arrow file, in batches of some rows."""
    makers = {"stream.arrow": pa.ipc.new_stream, "file.arrow": pa.ipc.new_file}
    for name, make in makers.items():
        with make(str(folder / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    return [folder / name for name in makers]


def test_rows_come_in_order_with_the_columns_that_were_asked_for(tmp_path: Path):
    table = pa.table({"a": range(3000), "b": [[str(n)] if n % 2 else None for n in range(3000)], "c": ["x"] * 3000})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    expected = table.select(["b", "a"]).to_pylist()
    readers = {file: read_arrow for file in write_both_forms(tmp_path, table, 900)} | {
        tmp_path / "a.parquet": read_parquet
    }
    for file, read in readers.items():
        for one in (file, write_compressed(file)):
            found = list(read(one, ["b", "a"], ""))
            assert [record.values for record in found] == expected, one
            assert [record.place for record in found] == [f"record {number}" for number in range(1, 3001)]


def test_a_column_that_is_not_there(tmp_path: Path):
    table = pa.table({"labels": [1]})
    pq.write_table(table, tmp_path / "a.parquet")
    message = r": no column 'label'; the columns are labels; did you mean `labels`\?; look"
    for read, file in ((read_parquet, tmp_path / "a.parquet"), (read_arrow, write_both_forms(tmp_path, table, 1)[0])):
        with pytest.raises(CorpusError, match=f"{file}{message}"):
            list(read(file, ["label"], "look"))


def test_bytes_that_are_not_utf_8(tmp_path: Path):
    text = pa.array([b"good", b"b\xffd"]).cast(pa.string(), safe=False)
    (stream, file) = write_both_forms(tmp_path, pa.table({"text": text}), 10)
    for one in (stream, file):
        with pytest.raises(CorpusError, match=rf"{one}, record 2: not UTF-8 text \(byte 0xff\); write the text as UTF"):
            list(read_arrow(one, ["text"], ""))


def test_damage_inside(tmp_path: Path):
    damage(tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a.parquet: not a readable parquet file \(Corrupt snappy"):
        list(read_parquet(tmp_path / "a.parquet", ["text"], ""))
    stream, _ = write_both_forms(tmp_path, pa.table({"text": ["天气" * 50] * 100}), 10)
    stream.write_bytes(stream.read_bytes()[:-500])
    with pytest.raises(CorpusError, match=r"stream.arrow: not a readable Arrow file"):
        list(read_arrow(stream, ["text"], ""))


def test_all_columns(tmp_path: Path):
    table = pa.table({"a": [1, 2], "b": ["x", "y"]})
    pq.write_table(table, tmp_path / "a.parquet")
    for file in write_both_forms(tmp_path, table, 1):
        assert [record.values for record in read_arrow(file, None, "")] == table.to_pylist()
    assert [record.values for record in read_parquet(tmp_path / "a.parquet", None, "")] == table.to_pylist()
