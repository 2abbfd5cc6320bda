"""Labels are those of the training rows or of a file of names; others are refused by name."""

import json
import math
from pathlib import Path

import pytest

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.splits import load_splits
from tests.data.files import write_lines
from tests.data.labelled_files import message_of, numbered


def test_label_names(tmp_path: Path):
    names = write_lines(tmp_path / "names.txt", ["体育", "财经", "教育", "", ""])
    train = write_lines(tmp_path / "a.tsv", [("2", "一"), ("0", "二"), ("财经", "三"), ("1", "四")])
    splits, labels, _ = load_splits(LabelledData(train=train, validation=train, remove_leaked=False, label_names=names))
    assert labels.ids == {"体育": 0, "财经": 1, "教育": 2}
    assert [labels.encode(row.labels) for row in splits["train"]] == [2, 0, 1, 1]


def test_a_label_that_is_only_in_validation(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", [("sports", "一"), ("games", "二")])
    validation = write_lines(tmp_path / "b.tsv", [("sports", "三"), ("sport", "四")])
    message = message_of(train=train, validation=validation)
    assert f"{validation}, line 2: the label 'sport' is only in validation, no training row has it" in message
    assert "did you mean `sports`?" in message
    splits, _, report = load_splits(LabelledData(train=train, validation=validation, bad_rows="skip"))
    assert [row.text for row in splits["validation"]] == ["三"]
    assert report["validation"]["skipped"] == {"label only in validation": 1}


def test_a_label_that_is_only_in_test(tmp_path: Path):
    given = {
        "train": write_lines(tmp_path / "a.tsv", [("sports", "一"), ("games", "二")]),
        "validation": write_lines(tmp_path / "b.tsv", [("sports", "三")]),
        "test": write_lines(tmp_path / "c.tsv", [("games", "四"), ("music", "五")]),
    }
    expected = f"{given['test']}, line 2: the label 'music' is only in test, no training row has it"
    assert expected in message_of(**given)
    splits, labels, report = load_splits(LabelledData(**given, bad_rows="skip"))
    assert ([row.text for row in splits["test"]], list(labels.ids)) == (["四"], ["games", "sports"])
    assert report["test"]["skipped"] == {"label only in test": 1}


def test_an_index_outside_the_label_names(tmp_path: Path):
    names = write_lines(tmp_path / "names.txt", ["sports", "games"])
    for label in ("2", "-1", "sport"):
        train = write_lines(tmp_path / "a.tsv", [("0", "一"), (label, "二")])
        message = message_of(train=train, label_names=names)
        assert f"a.tsv, line 2: the label '{label}' is not a name in {names} or an index from 0 to 1" in message
    assert "did you mean `sports`?" in message


def test_a_single_class(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", numbered("x", 5))
    assert "data.train: only one label, 'x' in 5 rows: there is nothing to tell apart" in message_of(train=train)


@pytest.mark.parametrize("number", ["nan", "-inf", "1e999", "many", "1,5"])
def test_regression_wants_finite_numbers(tmp_path: Path, number: str):
    lines = [(str(value), f"文{value}") for value in range(9)] + [(number, "坏")]
    train = write_lines(tmp_path / "a.tsv", lines)
    assert f"a.tsv, line 10: '{number}' is not a finite number" in message_of(train=train, task="regression")
    _, _, report = load_splits(LabelledData(train=train, task="regression", bad_rows="skip"))
    assert report["train"]["skipped"] == {"not a number": 1}


def test_numbers_of_json(tmp_path: Path):
    train = write_lines(
        tmp_path / "a.jsonl", [json.dumps({"label": v, "text": str(v)}) for v in (0.1, 2, 1e-7, math.nan)]
    )
    assert "a.jsonl, line 4: 'label' holds nan, expected a name or a finite number" in message_of(
        train=train, task="regression"
    )
