"""Splits have the size they should, whatever the number of rows."""

import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from kd_dist.data import arrow_rows, blocks


@pytest.mark.parametrize(
    ("num_rows", "fraction", "expected"),
    [
        (1, 0.5, 0),
        (2, 0.01, 1),
        (100, 0.01, 1),
        (100, 0.9, 50),
        (100, 0, 0),
        (2_000_000, 0.005, 10_000),
        (2_010_000, 0.005, 10_000),
        (100_000_000, 0.005, 10_000),
    ],
)
def test_the_size_of_validation(num_rows: int, fraction: float, expected: int):
    assert num_rows // arrow_rows._validation_period(num_rows, fraction) == expected


def test_percentiles_are_those_of_numpy():
    lengths = np.random.default_rng(0).integers(0, 60, 500)
    found = arrow_rows.percentiles(np.bincount(lengths))
    expected = {str(p): np.percentile(lengths, p, method="inverted_cdf") for p in (5, 25, 50, 75, 95, 100)}
    assert found == expected


def test_settings_are_as_before_after_the_quiet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    with arrow_rows.quiet():
        assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    assert "TOKENIZERS_PARALLELISM" not in os.environ
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    with arrow_rows.quiet():
        pass
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_units_hold_every_block_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(blocks, "MAX_GROUP_ITEMS", 3)
    texts = [[f"line {number}", "more"][: 1 + number % 2] for number in range(10)]
    arrow_rows.write_units(iter(texts), tmp_path / "units.arrow")
    units = datasets.Dataset.from_file(str(tmp_path / "units.arrow"))["blocks"][:]
    assert [len(unit) for unit in units] == [3, 3, 3, 1]
    assert [block for unit in units for block in unit] == texts


@pytest.mark.parametrize(("max_bytes", "num_files"), [(1, 3), (10**9, 1)])
def test_files_of_a_dataset_are_those_of_the_library(
    max_bytes: int, num_files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(arrow_rows, "MAX_FILE_BYTES", max_bytes)
    rows = datasets.Dataset.from_dict({"text": list("今天天气很好"), "labels": [0, 1, 0, 1, 0, 1]})
    with arrow_rows.DatasetFiles(tmp_path / "rows", rows.features) as files:
        for start in range(0, 6, 2):
            files.write(pa.table({"more": [1, 2], **{name: rows[start : start + 2][name] for name in rows.features}}))
    found = datasets.load_from_disk(str(tmp_path / "rows"))
    assert (found[:], found.features) == (rows[:], rows.features)
    assert len(list((tmp_path / "rows").glob("*.arrow"))) == len(found.cache_files) == num_files
    with arrow_rows.DatasetFiles(tmp_path / "none", rows.features):
        pass
    none = datasets.load_from_disk(str(tmp_path / "none"))
    assert (len(none), none.features) == (0, rows.features)
