"""Labels are those of the training rows or of a file of names; others are refused by name."""

import json
import math
from pathlib import Path

import pytest

from kd_dist.config.sections.data import LabelledData
from tests.data.files import write_lines
from tests.data.labelled_files import loaded, message_of, numbered


def test_label_names(tmp_path: Path):
    names = write_lines(tmp_path / "names.txt", ["体育", "财经", "教育", "", ""])
    train = write_lines(tmp_path / "a.tsv", [("2", "一"), ("0", "二"), ("财经", "三"), ("1", "四")])
    splits, labels, _ = loaded(LabelledData(train=train, validation=train, remove_leaked=False, label_names=names))
    assert labels.ids == {"体育": 0, "财经": 1, "教育": 2}
    assert [labels.encode(row.labels) for row in splits["train"]] == [2, 0, 1, 1]


def test_a_label_that_is_only_in_validation(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", [("sports", "一"), ("games", "二")])
    validation = write_lines(tmp_path / "b.tsv", [("sports", "三"), ("sport", "四")])
    message = message_of(train=train, validation=validation)
    assert f"{validation}, line 2: the label 'sport' is only in validation, no training row has it" in message
    assert "did you mean `sports`?" in message
    splits, _, report = loaded(LabelledData(train=train, validation=validation, bad_rows="skip"))
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
    splits, labels, report = loaded(LabelledData(**given, bad_rows="skip"))
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
    _, _, report = loaded(LabelledData(train=train, task="regression", bad_rows="skip"))
    assert report["train"]["skipped"] == {"not a number": 1}


def test_numbers_of_json(tmp_path: Path):
    train = write_lines(
        tmp_path / "a.jsonl", [json.dumps({"label": v, "text": str(v)}) for v in (0.1, 2, 1e-7, math.nan)]
    )
    assert "a.jsonl, line 4: 'label' holds nan, expected a name or a finite number" in message_of(
        train=train, task="regression"
    )


# ----------------------------------------------------------------------------------------- indices into a file of names


def with_names(folder: Path, labels: list[str], **settings: str) -> dict[str, str]:
    names = write_lines(folder / "names.txt", ["体育", "财经", "科技"])
    lines = [(label, f"{label} {number}") for label in labels for number in range(4)]
    return {"train": write_lines(folder / "a.tsv", lines), "label_names": names, **settings}


@pytest.mark.parametrize("bad_rows", ["error", "skip"])
@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["1", "2", "3"], "the indices run from 1 to 3, so they are counted from 1 and rows would get"),
        (["1.0", "2.0", "3.0"], "the indices run from 1 to 3, so they are counted from 1 and rows would get"),
        (["财经", "2", "3"], "the indices run from 2 to 3, so they are counted from 2 and rows would get"),
        (["101", "102"], "the indices run from 101 to 102, so they are counted from 101 and rows would get"),
        (["0", "1", "2", "3"], "the indices run from 0 to 3, so there is a name too few and rows would get"),
    ],
)
def test_indices_that_do_not_fit_the_names(labels: list[str], problem: str, bad_rows: str, tmp_path: Path):
    message = message_of(**with_names(tmp_path, labels, bad_rows=bad_rows))
    largest = labels[-1].removesuffix(".0")
    assert f"a.tsv, line {4 * len(labels) - 3}: the label '{largest}' is not a name in {tmp_path}/names.txt" in message
    assert problem in message
    assert "count from 0 with a name for each, or write names in place of indices" in message


def test_an_index_that_does_not_fit_in_another_split(tmp_path: Path):
    given = with_names(tmp_path, ["1", "2"])
    given["validation"] = write_lines(tmp_path / "b.tsv", [("1", "一"), ("3", "二")])
    assert "b.tsv, line 2: the label '3' is not a name in" in message_of(**given, bad_rows="skip")


def test_a_stray_number_is_a_bad_row(tmp_path: Path):
    given = with_names(tmp_path, ["0", "1", "2", "2024"])
    assert "the label '2024' is not a name in" in message_of(**given)
    _, _, report = loaded(LabelledData(**given, bad_rows="skip"))
    assert report["train"]["skipped"] == {"unknown label": 4}


def test_indices_of_a_table_with_missing_values(tmp_path: Path):
    splits, labels, _ = loaded(LabelledData(**with_names(tmp_path, ["0.0", "1.0", "2.0"])))
    assert {row.labels[0]: row.text.split(".")[0] for row in splits["train"]} == {"体育": "0", "财经": "1", "科技": "2"}
    assert list(labels.ids) == ["体育", "财经", "科技"]


def test_numbers_that_are_names_are_no_indices(tmp_path: Path):
    names = write_lines(tmp_path / "names.txt", ["100", "101"])
    train = write_lines(tmp_path / "a.tsv", [*numbered("100", 9), *numbered("101", 9)])
    _, labels, report = loaded(LabelledData(train=train, label_names=names))
    assert report["train"]["labels"].keys() == labels.ids.keys() == {"100", "101"}


# ------------------------------------------------------------------------------------------------------ spelt otherwise


def test_labels_that_are_alike(tmp_path: Path):
    names = ["财经", "财经\u200b", "Ａ股", "A股", "Sports", "sports", "体 育", "体育", "1", "1.0", "other"]
    train = write_lines(tmp_path / "a.tsv", [row for name in names for row in numbered(name, 9)])
    _, labels, report = loaded(LabelledData(train=train))
    assert set(labels.ids) == {"财经", "A股", "Sports", "sports", "体 育", "体育", "1", "1.0", "other"}
    assert report["alike_labels"] == [
        {"财经": 9, "财经\u200b": 9}, {"Ａ股": 9, "A股": 9}, {"Sports": 9, "sports": 9}, {"体 育": 9, "体育": 9},
        {"1": 9, "1.0": 9},
    ]  # fmt: skip


def test_numbers_are_not_alike(tmp_path: Path):
    train = write_lines(
        tmp_path / "a.tsv", [(label, f"文{row}") for row, label in enumerate(["1", "1.0", "1e0", "1E0"] * 9)]
    )
    assert loaded(LabelledData(train=train, task="regression"))[2]["alike_labels"] == []


def test_a_label_with_a_column_and_no_row(tmp_path: Path):
    lines = [("text", "a", "threat", "b"), *((f"文{row}", "1", "0", str(row % 2)) for row in range(20))]
    given = {
        "train": write_lines(tmp_path / "a.tsv", lines),
        "columns": ["text", "labels:*"],
        "task": "multi_label",
    }
    assert "no training row for the label 'threat' (1 of 3)" in message_of(**given)
    _, labels, _ = loaded(LabelledData(**given, bad_rows="skip"))
    assert list(labels.ids) == ["a", "b", "threat"]
