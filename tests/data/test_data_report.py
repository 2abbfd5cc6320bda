"""The report counts what is in the rows."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TinyWorld
from tests.data.files import write_lines
from tests.data.labelled_files import content, numbered, run_stage


def test_the_report(tmp_path: Path, tiny: TinyWorld):
    train = write_lines(
        tmp_path / "a.tsv", [*numbered("x", 6), ("x", "x 1"), ("y", "y 1"), ("y", "only text", "third"), "z"]
    )
    test = write_lines(tmp_path / "b.tsv", [("x", "x 2"), ("x", "x 2"), ("y", "other")])
    validation = write_lines(tmp_path / "c.tsv", [("y", "new"), ("x", "x 3"), ("q", "q")])
    tokens = run_stage(
        tmp_path / "data", tiny, train=train, validation=validation, test=test, bad_rows="skip", max_length=8
    )
    report = content(tokens, "data_report")
    assert report["train"]["skipped"] == {"too many columns": 1, "missing column": 1}
    assert report["validation"]["skipped"] == {"label only in validation": 1}
    assert report["duplicates_in_train"] == 1
    assert report["leaks"] == {
        "train_rows": 2, "train_rows_in_validation": 1, "train_rows_in_test": 1, "validation_rows_in_train": 1,
        "test_rows_in_train": 2, "test_rows_in_validation": 0, "removed": True,
    }  # fmt: skip
    assert report["train"]["labels"] == {"x": 5, "y": 1}
    assert (report["train"]["rows"], report["largest_to_smallest"], report["rare_labels"]) == (6, 5, ["y"])
    assert report["samples"] == {"x": ["x 0", "x 1"], "y": ["y 1"]}
    assert report["train"]["character_percentiles"]["50"] == 3
    assert report["train"]["token_percentiles"]["100"] == np.load(tokens / "train_lengths.npy").max()


def test_files_that_nobody_reads(tmp_path: Path, tiny: TinyWorld, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "files"
    write_lines(folder / "a.tsv", [*numbered("x", 6), *numbered("y", 6)])
    write_lines(folder / "B.TSV", [*numbered("x", 9)[6:], *numbered("y", 9)[6:]])
    (folder / "c.xlsx").touch()
    report = content(run_stage(tmp_path / "data", tiny, train=str(folder)), "data_report")
    assert sum(report[split]["rows"] for split in ("train", "validation", "test")) == 18
    assert report["unread_files"] == [str(folder / "c.xlsx")]
    note = f"  files in the given folders that are of no kind that is read here: 1 ({folder / 'c.xlsx'})\n"
    assert note in capsys.readouterr().out


def test_labels_that_are_alike_are_shown(tmp_path: Path, tiny: TinyWorld, capsys: pytest.CaptureFixture):
    names = ["x", "x\u200b", *(f"{case}{number}" for number in range(10) for case in "aA")]
    train = write_lines(tmp_path / "a.tsv", [row for name in names for row in numbered(name, 4)])
    run_stage(tmp_path / "data", tiny, train=train)
    shown = capsys.readouterr().out
    assert "labels that differ by case, width, spaces, invisible characters or .0 alone:\n" in shown
    assert "    'x' (4 rows), 'x\\u200b' (4 rows): read as one\n" in shown
    assert "    'a0' (4 rows), 'A0' (4 rows): 2 labels, rename those that mean the same\n" in shown
    assert "    and 1 more (data_report.json)\n" in shown
