"""Files that the tests of several modules write and read."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kd_dist.data import blocks
from kd_dist.data.blocks import TextStatistics


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


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


def write_lines(path: Path, lines: list[str] | list[tuple[str, ...]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join((row if isinstance(row, str) else "\t".join(row)) + "\n" for row in lines), encoding="utf-8"
    )
    return str(path)
