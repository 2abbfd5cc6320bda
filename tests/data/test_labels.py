"""Labels are ordered, encoded as the task needs, and matched with those of a model."""

from pathlib import Path

import pytest

from kd_dist.data.labels import Labels, has_generic_names, is_finite_number, label_order, read_label_names
from kd_dist.errors import CorpusError
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
