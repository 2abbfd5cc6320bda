"""A file that is not what its name says is called by what it is, with the way out."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_dist.data.lines import refuse_other_kinds
from kd_dist.errors import CorpusError

ROWS = "体育\t今天天气很好\n财经\t股票又涨了\n".encode()


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, "<xml/>" * 50)
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("train.tsv")
        entry.size = len(ROWS)
        archive.addfile(entry, io.BytesIO(ROWS))
    return stream.getvalue()


def table(write: Callable[[pa.Table, io.BytesIO], None]) -> bytes:
    stream = io.BytesIO()
    write(pa.table({"text": ["一"], "label": ["x"]}), stream)
    return stream.getvalue()


def arrow(open_writer: Callable[..., pa.ipc.RecordBatchStreamWriter]) -> bytes:
    def write(rows: pa.Table, stream: io.BytesIO) -> None:
        with open_writer(stream, rows.schema) as writer:
            writer.write_table(rows)

    return table(write)


PARQUET, STREAM, ARROW = table(pq.write_table), arrow(pa.ipc.new_stream), arrow(pa.ipc.new_file)

XLSX = zipped("[Content_Types].xml", "_rels/.rels", "docProps/app.xml", "xl/workbook.xml")


def refusal(path: Path) -> str | None:
    """What is said of a file that is something else than its name says."""
    try:
        refuse_other_kinds([path])
    except CorpusError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", XLSX, "this is a spreadsheet (.xlsx, .ods), not text; save the sheet as `CSV UTF-8` in Excel or"),
        ("a.csv", XLSX, "this is a spreadsheet"),
        ("a.csv.gz", gzip.compress(XLSX), "this is a spreadsheet (.xlsx, .ods), inside gzip, not text; unpack it with"),
        ("a.tsv", zipped("mimetype", "word/document.xml"), "this is a Word or LibreOffice document"),
        ("a.zip", zipped("train.tsv"), "this is a zip archive, not text; unpack it with `unzip` and give the files in"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "this is a file of an old Excel or Word (.xls"),
        ("a.tsv", gzip.compress(ROWS), "this is packed with gzip, not text; add .gz to its name"),
        ("a.tsv.gz", gzip.compress(gzip.compress(ROWS)), "packed with gzip, inside gzip, not text; unpack it with"),
        ("a.tsv.gz", ROWS, "this is text, not gzip; take .gz off its name"),
        ("a.tsv.gz", XLSX, "this is a spreadsheet (.xlsx, .ods), not gzip; save"),
        ("a.parquet.gz", PARQUET, "this is parquet, not gzip; give it the suffix .parquet"),
        ("a.tsv.bz2", b"BZh91AY&SY" + bytes(20), "packed with bzip2, not text; unpack it with `bunzip2`"),
        ("a.tsv", b"\xfd7zXZ\x00\x00", "packed with xz, not text; unpack it with `unxz`"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd\x00", "packed with Zstandard, not text; unpack it with `unzstd`"),
        ("a.txt", b"7z\xbc\xaf\x27\x1c\x00", "this is a 7z archive"),
        ("a.txt", b"Rar!\x1a\x07\x01\x00", "this is a RAR archive"),
        ("a.tar.gz", gzip.compress(tarred()), "a tar archive, inside gzip, not text; unpack it with `gunzip`, then"),
        ("a.tsv", PARQUET, "this is parquet, not text; give it the suffix .parquet"),
        ("a.json", STREAM, "this is Arrow, not text; give it the suffix .arrow"),
        ("a.parquet", ARROW, "this is Arrow, not parquet; give it the suffix .arrow"),
        ("a.arrow", PARQUET, "this is parquet, not Arrow; give it the suffix .parquet"),
        ("a.parquet", ROWS, "this is text, not parquet; give it the suffix of its format: .txt, .tsv, .csv or .jsonl"),
        ("a.parquet", XLSX, "this is a spreadsheet (.xlsx, .ods), not parquet"),
        ("a.tsv", b"SQLite format 3\x00", "this is an SQLite database, not text; write its contents as"),
        ("a.txt", b"%PDF-1.7\n", "this is a PDF"),
        ("a.txt", b"\x93NUMPY\x01\x00", "this is a NumPy array"),
        ("a.txt", b"\x80\x04\x95", "this is a Python pickle"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, which stands for"),
        ("a.tsv", "label\ttext\nx\tone\n".encode("utf-16-le"), "UTF-16LE without a byte-order mark, not text; convert"),
        ("a.tsv", "label\ttext\nx\tone\n".encode("utf-16-be"), "`iconv -f UTF-16BE -t UTF-8`"),
        ("a.txt", bytes(range(7)) * 9, "this is a binary file"),
    ],
)
def test_what_a_file_is_in_place_of_what_it_should_be(name: str, content: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    said = refusal(tmp_path / name)
    assert said is not None
    assert said.startswith(f"{tmp_path / name}: this is ")
    assert message in said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", ROWS),
        ("a.tsv.gz", gzip.compress(ROWS)),
        ("a.parquet", PARQUET),
        ("a.parquet.gz", gzip.compress(PARQUET)),
        ("a.arrow", ARROW),
        ("A.ARROW", STREAM),
        ("a.txt", b""),
        ("a.txt.gz", b""),
        ("a.txt", "PK 是点球".encode()),
        ("a.txt", b"a\x00b, and more text than zero bytes"),
    ],
)
def test_what_is_as_its_name_says(name: str, content: bytes, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name) is None
