"""Labelled texts to be scored come from prepared data, or from a file with the labels of a model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.examples import Examples, read_rows, read_split
from kd_dist.data.labelled_rows import BadRows
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.errors import CorpusError, RunError
from tests.conftest import LabelledWorld, TinyWorld
from tests.data.files import write
from tests.data.labelled_files import run_stage

LABELS = {"finance": 1, "sport": 0}


def rows_of(content: str, labels: dict[str, int], folder: Path, *, skip: bool = False, **settings: Any) -> Examples:
    data = LabelledData(train=[str(write(folder / "rows.tsv", content))], **settings)
    return read_rows(data, labels, BadRows(skip))


def test_a_split_of_prepared_data(labelled: LabelledWorld):
    examples, rows = read_split(labelled.tokens, "test"), PreparedRows(labelled.tokens).dataset("test")
    assert (examples.split, examples.task, examples.text_pairs) == ("test", "single_label", None)
    assert examples.texts == rows["text"][:]
    assert examples.labels.tolist() == rows["labels"][:]
    assert examples.names() == ["finance", "sport"]


def test_rows_of_several_labels(tmp_path: Path, tiny: TinyWorld):
    train = write(tmp_path / "a.tsv", "".join(f"{'a|b' if row % 2 else 'c'}\t{row}\n" for row in range(20)))
    tokens = run_stage(tmp_path / "data", tiny, train=str(train), task="multi_label")
    examples, rows = read_split(tokens, "validation"), PreparedRows(tokens).dataset("validation")
    assert (examples.labels.shape, examples.labels.tolist()) == ((2, 3), rows["labels"][:])


def test_rows_without_labels_are_refused(tiny: TinyWorld):
    with pytest.raises(RunError, match="holds rows without labels"):
        read_split(tiny.tokens, "validation")


def test_rows_of_a_file_have_the_numbers_of_the_model(tmp_path: Path):
    examples = rows_of("sport\t一\nfinance\tＢ\n", LABELS, tmp_path)
    assert (examples.split, examples.texts, examples.labels.tolist()) == ("rows.tsv", ["一", "B"], [0, 1])
    assert examples.names() == ["sport", "finance"]


def test_numbers_are_the_labels_of_a_model_without_names(tmp_path: Path):
    examples = rows_of("1\t一\nLABEL_0\t二\n", {"LABEL_0": 0, "LABEL_1": 1}, tmp_path)
    assert examples.labels.tolist() == [1, 0]


def test_pairs_and_several_labels(tmp_path: Path):
    settings = {"task": "multi_label", "columns": ["label", "text", "text_pair"]}
    examples = rows_of("sport|finance\t一\t二\n\t三\t四\n", LABELS | {"arts": 2}, tmp_path, **settings)
    assert examples.text_pairs == ["二", "四"]
    assert examples.labels.sum(axis=1).tolist() == [2, 0]


def test_labels_that_the_model_does_not_have(tmp_path: Path):
    content = "sport\t一\nsports\t二\n"
    with pytest.raises(CorpusError, match=r"line 2: 'sports' is none of the 2 labels .*did you mean `sport`\?"):
        rows_of(content, LABELS, tmp_path)
    assert rows_of(content, LABELS, tmp_path, skip=True).texts == ["一"]
    with pytest.raises(CorpusError, match=r"no row of rows.tsv is left to score \(left out: 1 x unknown label\)"):
        rows_of("x\t一\n", LABELS, tmp_path, skip=True)


def test_numbers_to_predict(tmp_path: Path):
    examples = rows_of("0.5\t一\n-2\t二\n", {}, tmp_path, task="regression")
    assert np.array_equal(examples.labels, [0.5, -2])
    with pytest.raises(CorpusError, match=r"line 1: 'many' is not a finite number"):
        rows_of("many\t一\n", {}, tmp_path, task="regression")


def test_labels_match_the_names_of_a_model_that_are_not_clean(tmp_path: Path):
    examples = rows_of("Ａ股\t一\nb\t二\n", {"b": 0, "Ａ股\u200b": 1}, tmp_path)
    assert (examples.labels.tolist(), examples.names()) == ([1, 0], ["b", "Ａ股\u200b"])


@pytest.mark.parametrize("skip", [True, False])
def test_rows_that_do_not_fit_a_model_are_not_scored(skip: bool, tmp_path: Path):
    generic = {"LABEL_0": 0, "LABEL_1": 1}
    with pytest.raises(CorpusError, match=r"line 2: the label '2' is not a name in the model .* counted from 1"):
        rows_of("1\t一\n2\t二\n", generic, tmp_path, skip=skip)
    content = "".join(f"新闻{number}\t{number % 2}\n" for number in range(12))
    with pytest.raises(CorpusError, match=r"set data.columns=text,label"):
        rows_of(content, generic, tmp_path, skip=skip)
