"""Labelled files become splits without leaks and rows as training reads them; what is wrong is said with its line."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from kd_dist.config.sections.data import LabelledData
from kd_dist.config.sections.models import TokenizerSource
from kd_dist.config.stages import LabelledStage
from kd_dist.data import labelled
from kd_dist.data.labels import label_order
from kd_dist.data.prepared_rows import SPLITS
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.splits import load_splits, stratified
from kd_dist.errors import CorpusError
from tests.conftest import TinyWorld
from tests.stages import run_entry

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write(path: Path, lines: list[str] | list[tuple[str, ...]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join((row if isinstance(row, str) else "\t".join(row)) + "\n" for row in lines), encoding="utf-8"
    )
    return str(path)


def numbered(name: str, count: int) -> list[tuple[str, str]]:
    return [(name, f"{name} {number}") for number in range(count)]


def run_stage(stage_dir: Path, tiny: TinyWorld, **settings: Any) -> Path:
    stage = LabelledStage(data=LabelledData(**settings), tokenizer=TokenizerSource(path=str(tiny.teacher)))
    stage_dir.mkdir(parents=True, exist_ok=True)
    (stage_dir / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
    run_entry(stage_dir)
    return stage_dir / "tokens"


def rows(tokens: Path, split: str = "train") -> Any:
    return load_from_disk(str(tokens / split))


def content(tokens: Path, name: str) -> Any:
    return json.loads((tokens / f"{name}.json").read_text(encoding="utf-8"))


def message_of(**settings: Any) -> str:
    with pytest.raises(CorpusError) as error:
        load_splits(LabelledData(**settings))
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------------- stage


def test_the_stage_writes_what_training_reads(tmp_path: Path, tiny: TinyWorld, capsys: pytest.CaptureFixture[str]):
    train = write(
        tmp_path / "train.tsv", [("体育", "今天　天气"), ("财经", "很好" * 20), ("体育", "公园"), ("财经", "北京")]
    )
    validation = write(tmp_path / "validation.tsv", [("财经", "北京"), ("体育", "我们")])
    tokens = run_stage(tmp_path / "run" / "data", tiny, train=train, validation=validation, max_length=16)
    tokenizer = AutoTokenizer.from_pretrained(tokens / "tokenizer")
    dataset = rows(tokens)
    assert {name: str(feature) for name, feature in dataset.features.items()} == {
        "text": "Value('string')", "labels": "Value('int64')", "input_ids": "List(Value('int32'))"
    }  # fmt: skip
    assert dataset["text"][:] == ["今天 天气", "很好" * 20, "公园"]
    assert dataset["labels"][:] == [0, 1, 0]
    assert dataset["input_ids"][:] == tokenizer(dataset["text"][:], truncation=True, max_length=16)["input_ids"]
    lengths = np.load(tokens / "train_lengths.npy", mmap_mode="r")
    assert (lengths.dtype, lengths.tolist()) == (np.uint16, [len(ids) for ids in dataset["input_ids"]])
    assert content(tokens, "label2id") == {"体育": 0, "财经": 1}
    assert Preprocessing.load(tokens) == Preprocessing(16)
    statistics = content(tokens, "statistics")
    total = sum(int(np.load(tokens / f"{split}_lengths.npy").sum()) for split in ("train", "validation", "test"))
    assert statistics.pop("seconds") >= 0
    assert statistics == {
        "vocabulary_size": len(tokenizer), "pad_token_id": 0, "max_length": 16, "word_starts": False,
        "task": "single_label", "num_labels": 2, "pairs": False, "train_rows": 3, "validation_rows": 2, "test_rows": 0,
        "truncated_rows": 1, "tokens": total,
    }  # fmt: skip
    assert len(rows(tokens, "test")) == len(np.load(tokens / "test_lengths.npy")) == 0
    assert rows(tokens, "test").features == dataset.features
    assert (tmp_path / "run" / "data" / "texts" / "train.txt").read_text() == f"今天 天气\n{'很好' * 20}\n公园\n"
    output = capsys.readouterr().out
    assert "data: 3 train, 2 validation, 0 test rows, 2 labels ('体育' in 66.7% of the training rows)" in output
    assert "1 training rows stand in validation or test too: removed" in output


def test_the_report(tmp_path: Path, tiny: TinyWorld):
    train = write(tmp_path / "a.tsv", [*numbered("x", 6), ("x", "x 1"), ("y", "y 1"), ("y", "only text", "third"), "z"])
    test = write(tmp_path / "b.tsv", [("x", "x 2"), ("x", "x 2"), ("y", "other")])
    validation = write(tmp_path / "c.tsv", [("y", "new"), ("x", "x 3"), ("q", "q")])
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


def test_the_rows_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, tiny: TinyWorld, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(labelled, "ROWS_PER_WORKER", 10)
    train = write(tmp_path / "a.tsv", [*numbered("今天", 30), *numbered("天气", 30)])
    one, three = (
        run_stage(tmp_path / name, tiny, train=train, segment="word", num_workers=workers)
        for name, workers in (("one", 1), ("three", 3))
    )
    for split in ("train", "validation", "test"):
        assert rows(one, split)[:] == rows(three, split)[:]


def test_a_rerun_replaces_what_is_there(tmp_path: Path, tiny: TinyWorld, monkeypatch: pytest.MonkeyPatch):
    train = write(tmp_path / "a.tsv", [*numbered("x", 10), *numbered("y", 10)])
    stage_dir = tmp_path / "data"
    tokens = run_stage(stage_dir, tiny, train=train)
    before = rows(tokens)[:]
    (tokens / "left").touch()
    (stage_dir / ".tokens.tmp-1-x").mkdir()
    assert rows(run_stage(stage_dir, tiny, train=train))[:] == before
    assert {path.name for path in stage_dir.iterdir()} == {"config.json", "texts", "tokens"}
    assert not (tokens / "left").exists()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(labelled, "write_split", fail)
    with pytest.raises(OSError, match="No space"):
        run_stage(tmp_path / "other", tiny, train=train)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["config.json"]


# ---------------------------------------------------------------------------------------------------------------- tasks


def test_pairs_and_hint_words(tmp_path: Path, tiny: TinyWorld):
    train = write(tmp_path / "a.csv", [f"x,今天{number},天气\ny,公园{number},很好" for number in range(9)])
    hints = write(tmp_path / "hints.txt", ["place\t公园"])
    tokens = run_stage(tmp_path / "pairs", tiny, train=train, columns="label,text,text_pair")
    dataset = rows(tokens)
    assert str(dataset.features["token_type_ids"]) == "List(Value('int8'))"
    tokenizer = AutoTokenizer.from_pretrained(tokens / "tokenizer")
    expected = tokenizer(dataset["text"][:], dataset["text_pair"][:])
    assert dataset["input_ids"][:] == expected["input_ids"]
    assert dataset["token_type_ids"][:] == expected["token_type_ids"]
    assert content(tokens, "statistics")["pairs"]
    lines = (tmp_path / "pairs" / "texts" / "train.txt").read_text().splitlines()
    assert lines == [text for row in dataset for text in (row["text"], row["text_pair"])]
    hinted = rows(run_stage(tmp_path / "hints", tiny, train=train, columns="label,text,-", hint_words=hints))
    for row in hinted:
        assert max(row["token_type_ids"]) == ("公园" in row["text"])


def test_multi_label_rows(tmp_path: Path, tiny: TinyWorld):
    lines = ["label,text", *(f"{'b|a' if number % 2 else 'a'},文{number}" for number in range(20)), ",没有", "c|b,三"]
    tokens = run_stage(tmp_path / "data", tiny, train=write(tmp_path / "a.csv", lines), task="multi_label")
    assert content(tokens, "label2id") == {"a": 0, "b": 1, "c": 2}
    assert str(rows(tokens).features["labels"]) == "List(Value('float32'))"
    labels = {row["text"]: row["labels"] for split in ("train", "validation", "test") for row in rows(tokens, split)}
    assert (labels["文1"], labels["文2"], labels["没有"], labels["三"]) == ([1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1])
    assert content(tokens, "statistics")["num_labels"] == 3


def test_regression(tmp_path: Path, tiny: TinyWorld):
    train = write(tmp_path / "a.tsv", [(str(number / 4), f"文{number}") for number in range(20)])
    tokens = run_stage(tmp_path / "data", tiny, train=train, task="regression")
    assert str(rows(tokens).features["labels"]) == "Value('float32')"
    assert all(row["labels"] == int(row["text"][1:]) / 4 for row in rows(tokens))
    assert (content(tokens, "label2id"), content(tokens, "statistics")["num_labels"]) == ({}, 1)
    assert content(tokens, "statistics")["validation_rows"] == 2


def test_label_names(tmp_path: Path):
    names = write(tmp_path / "names.txt", ["体育", "财经", "教育", "", ""])
    train = write(tmp_path / "a.tsv", [("2", "一"), ("0", "二"), ("财经", "三"), ("1", "四")])
    splits, labels, _ = load_splits(LabelledData(train=train, validation=train, remove_leaked=False, label_names=names))
    assert labels.ids == {"体育": 0, "财经": 1, "教育": 2}
    assert [labels.encode(row.labels) for row in splits["train"]] == [2, 0, 1, 1]


def test_the_order_of_labels():
    assert label_order(["10", "9", "b", "-1", "a", "2.5", "9", "nan"]) == ["-1", "2.5", "9", "10", "a", "b", "nan"]


# --------------------------------------------------------------------------------------------------------------- splits


def test_what_is_not_given_is_split_off(tmp_path: Path):
    many = write(tmp_path / "a.tsv", [*numbered("x", 80), *numbered("y", 15), *numbered("z", 5)])
    few = write(tmp_path / "b.tsv", [("x", "another"), ("y", "one")])

    def counts(**given: str) -> list[dict[str, int]]:
        splits, _, _ = load_splits(LabelledData(train=many, validation_fraction=0.2, test_fraction=0.4, **given))
        assert len({row.key for split in splits.values() for row in split}) == sum(map(len, splits.values()))
        return [dict(Counter(row.labels[0] for row in splits[split])) for split in ("train", "validation", "test")]

    train, validation, test = counts()
    assert [sum(split.values()) for split in (train, validation, test)] == [40, 20, 40]
    assert (train["x"], validation["x"], test["x"]) == pytest.approx((32, 16, 32), abs=2)
    assert train["z"] >= 1
    assert [sum(split.values()) for split in counts(test=few)] == [80, 20, 2]
    assert [sum(split.values()) for split in counts(validation=few)] == [100, 2, 0]


def test_splits_follow_the_seed(tmp_path: Path):
    train = write(tmp_path / "a.tsv", [*numbered("x", 50), *numbered("y", 50)])
    first, again, other = (load_splits(LabelledData(train=train, seed=seed))[0] for seed in (1, 1, 2))
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
    train = write(tmp_path / "a.tsv", [*numbered("x", 5), *numbered("y", 5)])
    test = write(tmp_path / "b.tsv", [("x", "ｘ\u3000 1"), ("y", "y 2"), ("y", "new")])
    given = {"train": train, "validation": test}
    splits, _, report = load_splits(LabelledData(**given))
    assert [row.text for row in splits["train"]] == ["x 0", "x 2", "x 3", "x 4", "y 0", "y 1", "y 3", "y 4"]
    kept, _, unremoved = load_splits(LabelledData(**given, remove_leaked=False))
    assert len(kept["train"]) == 10
    assert report["leaks"] == {**unremoved["leaks"], "removed": True}
    assert report["leaks"]["train_rows_in_validation"] == 2


def test_a_text_with_another_pair_is_no_leak(tmp_path: Path):
    train = write(tmp_path / "a.tsv", [("x", "一", "二"), ("y", "一", "三"), ("x", "四", "五")])
    validation = write(tmp_path / "b.tsv", [("x", "一", "三"), ("x", "一", "四")])
    message = message_of(train=train, validation=validation, columns="label,text,text_pair")
    assert "no training row for the label 'y' (1 of 2), or all of its rows stand in validation" in message
    splits, _, report = load_splits(
        LabelledData(train=train, validation=validation, columns="label,text,text_pair", bad_rows="skip")
    )
    assert [row.text_pair for row in splits["train"]] == ["二", "五"]
    assert report["rare_labels"] == ["y"]


def test_max_rows_are_drawn_after_leaks(tmp_path: Path):
    train = write(tmp_path / "a.tsv", [*numbered("x", 50), *numbered("y", 50)])
    validation = write(tmp_path / "b.tsv", numbered("x", 20))
    splits, _, report = load_splits(LabelledData(train=train, validation=validation, max_rows=15))
    assert [len(rows) for rows in splits.values()] == [15, 15, 0]
    assert report["leaks"]["train_rows"] == 20
    assert not {row.key for row in splits["train"]} & {row.key for row in splits["validation"]}


@pytest.mark.parametrize("seed", range(3))
def test_max_rows_leave_no_class_without_a_row(seed: int, tmp_path: Path):
    rare = [(f"rare {number}", f"{number} {row}") for number in range(5) for row in range(2)]
    train = write(tmp_path / "a.tsv", [*numbered("x", 690), *numbered("y", 300), *rare])
    validation = write(tmp_path / "b.tsv", [("x", "v 1"), ("y", "v 2"), ("rare 1", "v 3")])
    given = {"train": train, "validation": validation, "seed": seed}
    splits, _, _ = load_splits(LabelledData(**given, max_rows=50))
    counts = Counter(row.labels[0] for row in splits["train"])
    assert (counts.total(), len(counts)) == (50, 7)
    assert (counts["x"], counts["y"]) == pytest.approx((32, 14), abs=1)
    assert splits["train"] == sorted(splits["train"], key=lambda row: int(row.place.split()[1]))
    fewest, _, _ = load_splits(LabelledData(**given, max_rows=2))
    assert [len(rows) for rows in fewest.values()] == [7, 3, 0]


def test_max_rows_that_leave_one_of_several_labels_without_a_row(tmp_path: Path):
    lines = [*numbered("x", 20), ("a|y", "一"), ("a", "二"), ("b|y", "三"), ("b", "四")]  # y is never the rarest
    train, validation = write(tmp_path / "a.tsv", lines), write(tmp_path / "b.tsv", [("x", "v")])
    refused = 0
    for seed in range(20):
        given = {"train": train, "validation": validation, "task": "multi_label", "max_rows": 3, "seed": seed}
        splits, _, _ = load_splits(LabelledData(**given, bad_rows="skip"))
        if not any("y" in row.labels for row in splits["train"]):
            assert "no training row for the label 'y' (1 of 4)" in message_of(**given)
            assert "or data.max_rows=3 left them out" in message_of(**given)
            refused += 1
    assert refused


# ------------------------------------------------------------------------------------------------------------ bad input


def test_a_header_of_other_names_is_no_row(tmp_path: Path):
    train = write(tmp_path / "a.tsv", [("category", "sentence"), *numbered("x", 9), *numbered("y", 9)])
    assert "a.tsv, line 1: no other row has the label 'category'" in message_of(train=train)
    columns = ["label:category", "text:sentence"]
    _, labels, _ = load_splits(LabelledData(train=train, columns=columns))
    assert list(labels.ids) == ["x", "y"]
    names = write(tmp_path / "names.txt", ["x", "y"])
    assert "a.tsv, line 1: the label 'category' is not a name in" in message_of(train=train, label_names=names)
    message = message_of(train=train, task="regression")
    assert "a.tsv, line 1: 'category' is not a finite number" in message


def test_a_label_that_is_only_in_validation(tmp_path: Path):
    train = write(tmp_path / "a.tsv", [("sports", "一"), ("games", "二")])
    validation = write(tmp_path / "b.tsv", [("sports", "三"), ("sport", "四")])
    message = message_of(train=train, validation=validation)
    assert f"{validation}, line 2: the label 'sport' is only in validation, no training row has it" in message
    assert "did you mean `sports`?" in message
    splits, _, report = load_splits(LabelledData(train=train, validation=validation, bad_rows="skip"))
    assert [row.text for row in splits["validation"]] == ["三"]
    assert report["validation"]["skipped"] == {"label only in validation": 1}


def test_a_label_that_is_only_in_test(tmp_path: Path):
    given = {
        "train": write(tmp_path / "a.tsv", [("sports", "一"), ("games", "二")]),
        "validation": write(tmp_path / "b.tsv", [("sports", "三")]),
        "test": write(tmp_path / "c.tsv", [("games", "四"), ("music", "五")]),
    }
    expected = f"{given['test']}, line 2: the label 'music' is only in test, no training row has it"
    assert expected in message_of(**given)
    splits, labels, report = load_splits(LabelledData(**given, bad_rows="skip"))
    assert ([row.text for row in splits["test"]], list(labels.ids)) == (["四"], ["games", "sports"])
    assert report["test"]["skipped"] == {"label only in test": 1}


def test_an_index_outside_the_label_names(tmp_path: Path):
    names = write(tmp_path / "names.txt", ["sports", "games"])
    for label in ("2", "-1", "sport"):
        train = write(tmp_path / "a.tsv", [("0", "一"), (label, "二")])
        message = message_of(train=train, label_names=names)
        assert f"a.tsv, line 2: the label '{label}' is not a name in {names} or an index from 0 to 1" in message
    assert "did you mean `sports`?" in message


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "", "b"], "line 2: empty, but names follow"),
        (["a", "b", "a"], "line 3: 'a' is in line 1 already"),
        ([""], "names.txt: no label names"),
    ],
)
def test_bad_files_of_label_names(tmp_path: Path, names: list[str], expected: str):
    train = write(tmp_path / "a.tsv", [("0", "一")])
    assert expected in message_of(train=train, label_names=write(tmp_path / "names.txt", names))


def test_a_name_without_a_training_row(tmp_path: Path):
    names = write(tmp_path / "names.txt", ["a", "empty", "b"])
    train = write(tmp_path / "a.tsv", [*numbered("0", 5), *numbered("2", 5)])
    assert "no training row for the label 'empty' (1 of 3)" in message_of(train=train, label_names=names)
    _, labels, report = load_splits(LabelledData(train=train, label_names=names, bad_rows="skip"))
    assert labels.ids == {"a": 0, "empty": 1, "b": 2}
    assert (report["train"]["labels"]["empty"], report["rare_labels"]) == (0, ["empty"])


def test_a_class_of_one_row_stays_in_train(tmp_path: Path):
    train = write(tmp_path / "a.tsv", [*numbered("x", 30), ("rare", "一")])
    for seed in range(5):
        splits, _, report = load_splits(
            LabelledData(train=train, test_fraction=0.4, validation_fraction=0.4, seed=seed)
        )
        assert [row.text for row in splits["train"] if row.labels == ("rare",)] == ["一"]
        assert report["rare_labels"] == ["rare"]


def test_a_single_class(tmp_path: Path):
    train = write(tmp_path / "a.tsv", numbered("x", 5))
    assert "data.train: only one label, 'x' in 5 rows: there is nothing to tell apart" in message_of(train=train)


@pytest.mark.parametrize("number", ["nan", "-inf", "1e999", "many", "1,5"])
def test_regression_wants_finite_numbers(tmp_path: Path, number: str):
    lines = [(str(value), f"文{value}") for value in range(9)] + [(number, "坏")]
    train = write(tmp_path / "a.tsv", lines)
    assert f"a.tsv, line 10: '{number}' is not a finite number" in message_of(train=train, task="regression")
    _, _, report = load_splits(LabelledData(train=train, task="regression", bad_rows="skip"))
    assert report["train"]["skipped"] == {"not a number": 1}


def test_numbers_of_json(tmp_path: Path):
    train = write(tmp_path / "a.jsonl", [json.dumps({"label": v, "text": str(v)}) for v in (0.1, 2, 1e-7, math.nan)])
    assert "a.jsonl, line 4: 'label' holds nan, expected a name or a finite number" in message_of(
        train=train, task="regression"
    )


def test_too_few_rows(tmp_path: Path):
    train = write(tmp_path / "a.tsv", [("x", "一"), ("y", "二")])
    assert "no row is left for validation" in message_of(train=train)
    assert "no row is left for train" in message_of(train=train, validation=train)


def test_a_million_characters_in_one_text(tmp_path: Path, tiny: TinyWorld):
    train = write(tmp_path / "a.tsv", [*numbered("x", 9), *numbered("y", 9), ("x", "天气" * 500_000)])
    validation = write(tmp_path / "b.tsv", [("x", "v")])
    tokens = run_stage(tmp_path / "data", tiny, train=train, validation=validation, max_length=32)
    assert (content(tokens, "statistics")["truncated_rows"], np.load(tokens / "train_lengths.npy")[-1]) == (1, 32)
    assert len(rows(tokens)[-1]["text"]) == 1_000_000


# ------------------------------------------------------------------------------------------------------------ real data

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
    splits, labels, report = load_splits(LabelledData(**paths, **options, remove_leaked=False))
    assert [len(splits[split]) for split in SPLITS] == num_rows
    assert len(labels.ids) == num_labels
    if test_rows_in_train is not None:
        assert report["leaks"]["test_rows_in_train"] == test_rows_in_train
