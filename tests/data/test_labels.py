"""Labels are ordered, encoded as the task needs, and matched with those of a model."""

from pathlib import Path

import numpy as np
import pytest

from kd_dist.data.labels import (
    Labels,
    align_labels,
    columns_by_name,
    has_generic_names,
    is_finite_number,
    label_order,
    read_label_names,
)
from kd_dist.errors import CorpusError, UserError
from tests.data.files import write_lines


def test_the_order_of_labels():
    assert label_order(["10", "9", "b", "-1", "a", "2.5", "9", "nan"]) == ["-1", "2.5", "9", "10", "a", "b", "nan"]


def test_labels_are_encoded_as_the_task_needs():
    ids = {"a": 1, "b": 0, "c": 2}
    assert Labels("single_label", ids).encode(["c"]) == 2
    assert Labels("regression", {}).encode(["2.5"]) == 2.5
    assert Labels("multi_label", ids).encode(["c", "a"]) == [0.0, 1.0, 1.0]  # by index, not in the order of the names
    assert Labels("multi_label", ids).encode([]) == [0.0, 0.0, 0.0]
    assert Labels("single_label", ids).names() == ["b", "a", "c"]


def test_a_model_is_configured_as_transformers_expects():
    from transformers import BertConfig

    config = BertConfig(**Labels("multi_label", {"no": 0, "yes": 1}).model_settings())
    assert (config.problem_type, config.num_labels) == ("multi_label_classification", 2)
    assert (config.id2label, config.label2id) == ({0: "no", 1: "yes"}, {"no": 0, "yes": 1})
    config = BertConfig(**Labels("regression", {}).model_settings())
    assert (config.problem_type, config.num_labels) == ("regression", 1)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "", "b"], "line 2: empty, but names follow"),
        (["a", "b", "a"], "line 3: 'a' is in line 1 already"),
        ([""], "names.txt: no label names"),
    ],
)
def test_bad_files_of_label_names(tmp_path: Path, names: list[str], expected: str):
    with pytest.raises(CorpusError) as error:
        read_label_names(Path(write_lines(tmp_path / "names.txt", names)))
    assert expected in str(error.value)


def test_names_are_in_the_order_of_their_lines(tmp_path: Path):
    assert read_label_names(Path(write_lines(tmp_path / "names.txt", ["b", " a ", "c", "", ""]))) == ["b", "a", "c"]


def test_names_that_transformers_makes_up():
    assert has_generic_names({"LABEL_0": 0, "LABEL_1": 1})
    assert not has_generic_names({"LABEL_1": 0, "LABEL_0": 1})
    assert [is_finite_number(text) for text in ("1e3", "-2", "nan", "inf", "x", "")] == [True, True, *[False] * 4]


def test_permuted_labels_are_found_by_name() -> None:
    model, data = {"sport": 0, "finance": 1, "travel": 2}, {"travel": 0, "sport": 1, "finance": 2}
    columns = align_labels(model, data)
    assert columns == [2, 0, 1]
    logits_BC = np.eye(3)[[model["travel"], model["sport"]]]
    assert logits_BC[:, columns].argmax(axis=1).tolist() == [data["travel"], data["sport"]]


def test_labels_are_those_of_the_columns() -> None:
    assert columns_by_name({0: "sport", 1: "2024"}) == {"sport": 0, "2024": 1}


def test_numbered_labels_are_taken_in_order_and_that_is_said(capsys: pytest.CaptureFixture) -> None:
    assert align_labels({"LABEL_0": 0, "LABEL_1": 1}, {"yes": 1, "no": 0}) == [0, 1]
    assert "'no', 'yes'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ({"sport": 0, "money": 1}, {"sport": 0, "monye": 1}, "does not know 'monye'; the data does not have 'money'"),
        ({"a": 0, "b": 1, "c": 2}, {"a": 0, "b": 1}, "the model has 3 labels, the data 2; the data does not have 'c'"),
        ({"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}, {"a": 0, "b": 1}, "the model has 3 labels, the data 2"),
    ],
)
def test_other_labels_are_refused_by_name(model, data, message) -> None:
    with pytest.raises(UserError, match=message):
        align_labels(model, data)


def test_names_are_cleaned(tmp_path: Path):
    assert read_label_names(Path(write_lines(tmp_path / "a.txt", ["\u200b财经\ufeff", "Ａ\u3000股"]))) == [
        "财经",
        "A 股",
    ]
    with pytest.raises(CorpusError, match="line 2: '财经' is in line 1 already"):
        read_label_names(Path(write_lines(tmp_path / "b.txt", ["财经\u200b", "财经"])))


def test_names_that_are_equal_once_they_are_clean_match() -> None:
    assert align_labels({"Ａ股\u200b": 0, "b": 1}, {"b": 0, "A股": 1}) == [1, 0]
    assert align_labels({"a": 1, "a\u200b": 0}, {"a\u200b": 1, "a": 0}) == [1, 0]  # two classes for the model
    with pytest.raises(UserError, match="the model has 3 labels, the data 2"):
        align_labels({"a": 0, "a\u200b": 1, "b": 2}, {"a": 0, "b": 1})
