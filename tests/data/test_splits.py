"""Splits are stratified, repeatable and without leaks, and what cannot be split is refused."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.prepared_rows import SPLITS
from kd_dist.data.splits import stratified
from tests.data.files import write_lines
from tests.data.labelled_files import loaded, message_of, numbered

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_what_is_not_given_is_split_off(tmp_path: Path):
    many = write_lines(tmp_path / "a.tsv", [*numbered("x", 80), *numbered("y", 15), *numbered("z", 5)])
    few = write_lines(tmp_path / "b.tsv", [("x", "another"), ("y", "one")])

    def counts(**given: str) -> list[dict[str, int]]:
        splits, _, _ = loaded(LabelledData(train=many, validation_fraction=0.2, test_fraction=0.4, **given))
        assert len({row.key for split in splits.values() for row in split}) == sum(map(len, splits.values()))
        return [dict(Counter(row.labels[0] for row in splits[split])) for split in ("train", "validation", "test")]

    train, validation, test = counts()
    assert [sum(split.values()) for split in (train, validation, test)] == [40, 20, 40]
    assert (train["x"], validation["x"], test["x"]) == pytest.approx((32, 16, 32), abs=2)
    assert train["z"] >= 1
    assert [sum(split.values()) for split in counts(test=few)] == [80, 20, 2]
    assert [sum(split.values()) for split in counts(validation=few)] == [100, 2, 0]


def test_splits_follow_the_seed(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", [*numbered("x", 50), *numbered("y", 50)])
    first, again, other = (loaded(LabelledData(train=train, seed=seed))[0] for seed in (1, 1, 2))
    assert first == again != other


@given(st.lists(st.sampled_from("aaaab"), min_size=1, max_size=60), st.floats(0, 0.5), st.integers(0, 99))
@settings(max_examples=100)
def test_stratified_rows_are_in_proportion(classes: list[str], share: float, seed: int):
    count = round(share * len(classes))
    drawn = stratified(classes, count, np.random.default_rng(seed))
    present = Counter(classes)
    taken = Counter(name for name, is_drawn in zip(classes, drawn, strict=True) if is_drawn)
    assert drawn.sum() == min(count, len(classes) - len(present))
    for name, size in present.items():
        assert taken[name] < size
        assert abs(taken[name] - count * (size - 1) / max(1, len(classes) - len(present))) <= 1 or count > drawn.sum()


def test_leaks_are_removed_or_only_counted(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", [*numbered("x", 5), *numbered("y", 5)])
    test = write_lines(tmp_path / "b.tsv", [("x", "ｘ\u3000 1"), ("y", "y 2"), ("y", "new")])
    given = {"train": train, "validation": test}
    splits, _, report = loaded(LabelledData(**given))
    assert [row.text for row in splits["train"]] == ["x 0", "x 2", "x 3", "x 4", "y 0", "y 1", "y 3", "y 4"]
    kept, _, unremoved = loaded(LabelledData(**given, remove_leaked=False))
    assert len(kept["train"]) == 10
    assert report["leaks"] == {**unremoved["leaks"], "removed": True}
    assert report["leaks"]["train_rows_in_validation"] == 2


def test_a_text_with_another_pair_is_no_leak(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", [("x", "一", "二"), ("y", "一", "三"), ("x", "四", "五")])
    validation = write_lines(tmp_path / "b.tsv", [("x", "一", "三"), ("x", "一", "四")])
    message = message_of(train=train, validation=validation, columns="label,text,text_pair")
    assert "no training row for the label 'y' (1 of 2), or all of its rows are also in validation" in message
    splits, _, report = loaded(
        LabelledData(train=train, validation=validation, columns="label,text,text_pair", bad_rows="skip")
    )
    assert [row.text_pair for row in splits["train"]] == ["二", "五"]
    assert report["rare_labels"] == ["y"]


def test_max_rows_are_drawn_after_leaks(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", [*numbered("x", 50), *numbered("y", 50)])
    validation = write_lines(tmp_path / "b.tsv", numbered("x", 20))
    splits, _, report = loaded(LabelledData(train=train, validation=validation, max_rows=15))
    assert [len(rows) for rows in splits.values()] == [15, 15, 0]
    assert report["leaks"]["train_rows"] == 20
    assert not {row.key for row in splits["train"]} & {row.key for row in splits["validation"]}


@pytest.mark.parametrize("seed", range(3))
def test_max_rows_leave_no_class_without_a_row(seed: int, tmp_path: Path):
    rare = [(f"rare {number}", f"{number} {row}") for number in range(5) for row in range(2)]
    train = write_lines(tmp_path / "a.tsv", [*numbered("x", 690), *numbered("y", 300), *rare])
    validation = write_lines(tmp_path / "b.tsv", [("x", "v 1"), ("y", "v 2"), ("rare 1", "v 3")])
    given = {"train": train, "validation": validation, "seed": seed}
    splits, _, _ = loaded(LabelledData(**given, max_rows=50))
    counts = Counter(row.labels[0] for row in splits["train"])
    assert (counts.total(), len(counts)) == (50, 7)
    assert (counts["x"], counts["y"]) == pytest.approx((32, 14), abs=1)
    assert splits["train"] == sorted(splits["train"], key=lambda row: int(row.place.split()[1]))
    fewest, _, _ = loaded(LabelledData(**given, max_rows=2))
    assert [len(rows) for rows in fewest.values()] == [7, 3, 0]


def test_max_rows_that_leave_one_of_several_labels_without_a_row(tmp_path: Path):
    lines = [*numbered("x", 20), ("a|y", "一"), ("a", "二"), ("b|y", "三"), ("b", "四")]  # y is never the rarest
    train, validation = write_lines(tmp_path / "a.tsv", lines), write_lines(tmp_path / "b.tsv", [("x", "v")])
    refused = 0
    for seed in range(20):
        given = {"train": train, "validation": validation, "task": "multi_label", "max_rows": 3, "seed": seed}
        splits, _, _ = loaded(LabelledData(**given, bad_rows="skip"))
        if not any("y" in row.labels for row in splits["train"]):
            assert "no training row for the label 'y' (1 of 4)" in message_of(**given)
            assert "or data.max_rows=3 left them out" in message_of(**given)
            refused += 1
    assert refused


def test_a_header_of_other_names_is_no_row(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", [("category", "sentence"), *numbered("x", 9), *numbered("y", 9)])
    assert "a.tsv, line 1: no other row has the label 'category'" in message_of(train=train)
    columns = ["label:category", "text:sentence"]
    _, labels, _ = loaded(LabelledData(train=train, columns=columns))
    assert list(labels.ids) == ["x", "y"]
    names = write_lines(tmp_path / "names.txt", ["x", "y"])
    assert "a.tsv, line 1: the label 'category' is not a name in" in message_of(train=train, label_names=names)
    message = message_of(train=train, task="regression")
    assert "a.tsv, line 1: 'category' is not a finite number" in message


def test_texts_in_place_of_labels_are_no_header(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", [(f"新闻{number}", str(number % 3)) for number in range(12)])
    names = write_lines(tmp_path / "names.txt", ["体育", "财经", "科技"])
    for with_names in ({}, {"label_names": names}, {"label_names": names, "bad_rows": "skip"}):
        assert "set data.columns=text,label" in message_of(train=train, **with_names)


def test_a_name_without_a_training_row(tmp_path: Path):
    names = write_lines(tmp_path / "names.txt", ["a", "empty", "b"])
    train = write_lines(tmp_path / "a.tsv", [*numbered("0", 5), *numbered("2", 5)])
    assert "no training row for the label 'empty' (1 of 3)" in message_of(train=train, label_names=names)
    _, labels, report = loaded(LabelledData(train=train, label_names=names, bad_rows="skip"))
    assert labels.ids == {"a": 0, "empty": 1, "b": 2}
    assert (report["train"]["labels"]["empty"], report["rare_labels"]) == (0, ["empty"])


def test_a_class_of_one_row_stays_in_train(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", [*numbered("x", 30), ("rare", "一")])
    for seed in range(5):
        splits, _, report = loaded(LabelledData(train=train, test_fraction=0.4, validation_fraction=0.4, seed=seed))
        assert [row.text for row in splits["train"] if row.labels == ("rare",)] == ["一"]
        assert report["rare_labels"] == ["rare"]


def test_too_few_rows(tmp_path: Path):
    train = write_lines(tmp_path / "a.tsv", [("x", "一"), ("y", "二")])
    assert "no row is left for validation" in message_of(train=train)
    assert "no row is left for train" in message_of(train=train, validation=train)


REAL = {
    "thucnews": ("train.txt", "dev.txt", "test.txt", {"columns": "text,label", "label_names": "class.txt"}),
    "chnsenticorp": ("train.tsv", "dev.tsv", "test.tsv", {}),
    "tnews": ("train.json", "dev.json", "test_public.json", {"columns": "text:sentence,label"}),
    "toutiao5": ("train.json", "", "test.json", {"label_names": "class_multi1.txt"}),
    "duee_multilabel": ("train.csv", "", "test.csv", {"columns": "label,text:content", "task": "multi_label"}),
    "glue/SST-2": ("train.tsv", "dev.tsv", "", {"columns": "text:sentence,label"}),
    "glue/RTE": ("train.tsv", "dev.tsv", "", {"columns": "text:sentence1,text_pair:sentence2,label"}),
    "glue/MRPC": ("train.tsv", "dev.tsv", "", {"columns": "label:Quality,text:#1 String,text_pair:#2 String"}),
}


@pytest.mark.parametrize(
    ("name", "num_rows", "num_labels", "test_rows_in_train"),
    [
        ("thucnews", [33_590, 10_000, 7_996], 10, 28),
        ("chnsenticorp", [9_600, 1_200, 1_200], 2, 331),
        ("tnews", [10_000, 2_000, 2_000], 15, 0),
        ("toutiao5", [13_500, 1_500, 3_599], 5, None),
        ("duee_multilabel", [10_762, 1_196, 1_197], 65, 1),
        ("glue/SST-2", [67_349, 872, 0], 2, 0),
        ("glue/RTE", [2_490, 277, 0], 2, 0),
        ("glue/MRPC", [3_667, 408, 0], 2, 0),
    ],
)
def test_real_data(name: str, num_rows: list[int], num_labels: int, test_rows_in_train: int | None):
    folder = SHARED / name
    if not folder.exists():
        pytest.skip(f"{name} does not lie beside the repository")
    *files, options = REAL[name]
    paths = {key: str(folder / file) for key, file in zip(SPLITS, files, strict=True) if file}
    if "label_names" in options:
        options = {**options, "label_names": str(folder / options["label_names"])}
    splits, labels, report = loaded(LabelledData(**paths, **options, remove_leaked=False))
    assert [len(splits[split]) for split in SPLITS] == num_rows
    assert len(labels.ids) == num_labels
    if test_rows_in_train is not None:
        assert report["leaks"]["test_rows_in_train"] == test_rows_in_train
