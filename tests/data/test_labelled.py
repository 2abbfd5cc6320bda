"""Labelled files become tokenized splits, and a rerun replaces what is there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_from_disk
from transformers import AutoTokenizer, BertTokenizer

from kd_dist.data import labelled, row_blocks
from kd_dist.data.preprocessing import Preprocessing
from tests.conftest import TinyWorld
from tests.data.files import write_lines
from tests.data.kills import blocks_written, contents, run_until_killed
from tests.data.labelled_files import content, numbered, run_stage


def rows(tokens: Path, split: str = "train") -> Any:
    return load_from_disk(str(tokens / split))


def test_the_stage_writes_what_training_reads(tmp_path: Path, tiny: TinyWorld, capsys: pytest.CaptureFixture[str]):
    train = write_lines(
        tmp_path / "train.tsv", [("体育", "今天　天气"), ("财经", "很好" * 20), ("体育", "公园"), ("财经", "北京")]
    )
    validation = write_lines(tmp_path / "validation.tsv", [("财经", "北京"), ("体育", "我们")])
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
    assert "1 training rows are also in validation or test: removed" in output


def test_the_rows_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, tiny: TinyWorld, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(row_blocks, "MAX_BLOCK_ROWS", 10)
    train = write_lines(tmp_path / "a.tsv", [*numbered("今天", 30), *numbered("天气", 30)])
    one, three = (
        run_stage(tmp_path / name, tiny, train=train, segment="word", num_workers=workers)
        for name, workers in (("one", 1), ("three", 3))
    )
    for split in ("train", "validation", "test"):
        assert rows(one, split)[:] == rows(three, split)[:]


@pytest.mark.parametrize(("segment", "found"), [("auto", "word"), ("none", "none"), ("char", "char")])
def test_a_vocabulary_of_words_is_segmented_into_words_unless_told_otherwise(
    segment: str, found: str, tmp_path: Path, tiny: TinyWorld
):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气很好x0123456789", "天气"]
    BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}).save_pretrained(tmp_path / "words")
    train = write_lines(tmp_path / "a.tsv", [*numbered("x", 10), *numbered("天气", 10)])
    world = replace(tiny, teacher=tmp_path / "words")
    tokens = run_stage(tmp_path / "data", world, train=train, segment=segment)
    assert content(tokens, "preprocessing")["segment"] == found
    assert any(pieces.index("天气") in row for row in rows(tokens)["input_ids"]) == (found == "word")


def test_a_rerun_replaces_what_is_there(tmp_path: Path, tiny: TinyWorld, monkeypatch: pytest.MonkeyPatch):
    train = write_lines(tmp_path / "a.tsv", [*numbered("x", 10), *numbered("y", 10)])
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
    assert {path.name for path in (tmp_path / "other").iterdir()} == {"config.json", "blocks"}  # for the next try


def test_pairs_and_hint_words(tmp_path: Path, tiny: TinyWorld):
    train = write_lines(tmp_path / "a.csv", [f"x,今天{number},天气\ny,公园{number},很好" for number in range(9)])
    hints = write_lines(tmp_path / "hints.txt", ["place\t公园"])
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
    tokens = run_stage(tmp_path / "data", tiny, train=write_lines(tmp_path / "a.csv", lines), task="multi_label")
    assert content(tokens, "label2id") == {"a": 0, "b": 1, "c": 2}
    assert str(rows(tokens).features["labels"]) == "List(Value('float32'))"
    labels = {row["text"]: row["labels"] for split in ("train", "validation", "test") for row in rows(tokens, split)}
    assert (labels["文1"], labels["文2"], labels["没有"], labels["三"]) == ([1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1])
    assert content(tokens, "statistics")["num_labels"] == 3


def test_regression(tmp_path: Path, tiny: TinyWorld):
    train = write_lines(tmp_path / "a.tsv", [(str(number / 4), f"文{number}") for number in range(20)])
    tokens = run_stage(tmp_path / "data", tiny, train=train, task="regression")
    assert str(rows(tokens).features["labels"]) == "Value('float32')"
    assert all(row["labels"] == int(row["text"][1:]) / 4 for row in rows(tokens))
    assert (content(tokens, "label2id"), content(tokens, "statistics")["num_labels"]) == ({}, 1)
    assert content(tokens, "statistics")["validation_rows"] == 2


def test_a_million_characters_in_one_text(tmp_path: Path, tiny: TinyWorld):
    train = write_lines(tmp_path / "a.tsv", [*numbered("x", 9), *numbered("y", 9), ("x", "天气" * 500_000)])
    validation = write_lines(tmp_path / "b.tsv", [("x", "v")])
    tokens = run_stage(tmp_path / "data", tiny, train=train, validation=validation, max_length=32)
    assert (content(tokens, "statistics")["truncated_rows"], np.load(tokens / "train_lengths.npy")[-1]) == (1, 32)
    assert len(rows(tokens)[-1]["text"]) == 1_000_000


@pytest.mark.parametrize("after_blocks", [0, 3, 9, 17])  # while rows are read, and while they are tokenized
def test_a_killed_preparation_goes_on_and_ends_as_if_nothing_had_been(
    after_blocks: int, tmp_path: Path, tiny: TinyWorld, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(row_blocks, "MAX_BLOCK_ROWS", 8)
    train = write_lines(tmp_path / "a.tsv", [*numbered("今天", 30), *numbered("天气", 30), ("天气", "今天 1")])
    settings = {"train": train, "num_workers": 1, "export_splits": True}
    undisturbed = blocks_written(lambda: run_stage(tmp_path / "undisturbed", tiny, **settings))
    run_until_killed(lambda: run_stage(tmp_path / "killed", tiny, **settings), after_blocks)
    kept = len(list((tmp_path / "killed" / "blocks").iterdir()))
    assert kept == after_blocks
    assert blocks_written(lambda: run_stage(tmp_path / "killed", tiny, **settings)) == undisturbed - kept
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert not (tmp_path / "killed" / "blocks").exists()


def test_other_settings_are_not_taken_for_those_of_a_killed_try(
    tmp_path: Path, tiny: TinyWorld, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(row_blocks, "MAX_BLOCK_ROWS", 8)
    train = write_lines(tmp_path / "a.tsv", [*numbered("今天", 30), *numbered("天气", 30)])
    settings = {"train": train, "num_workers": 1}
    run_until_killed(lambda: run_stage(tmp_path / "killed", tiny, **settings, seed=1, segment="char"), 20)
    for stage in ("killed", "undisturbed"):
        run_stage(tmp_path / stage, tiny, **settings, seed=2, max_length=8)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
