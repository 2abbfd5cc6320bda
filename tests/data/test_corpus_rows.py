"""Rows of a corpus do not depend on the number of workers, and nothing is left behind on failure."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from datasets import load_from_disk
from transformers import AutoTokenizer

from kd_dist.data import arrow_rows, blocks, corpus_rows
from kd_dist.data.blocks import TextStatistics
from kd_dist.errors import CorpusError
from tests.conftest import TinyWorld

DOCUMENTS = [
    ["今天天气很好。我们去公园!", "知识蒸馏训练学生模型。"],
    ["老师很好?"],
    ["Small models train fast. Yes!", "北京大学"],
]


@pytest.fixture(scope="module")
def tokenizer(tiny: TinyWorld):
    return AutoTokenizer.from_pretrained(tiny.tokenizer)


def rows_of(folder: Path, split: str = "train") -> list[list[int]]:
    return load_from_disk(str(folder / split))["input_ids"][:]


def test_prepare_is_the_same_for_any_number_of_workers(
    tmp_path: Path, arguments: dict, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(blocks, "MAX_GROUP_ITEMS", 20)  # several units, so that several workers have something to do
    arguments["word_starts"] = True
    one = corpus_rows.prepare(output_dir=tmp_path / "one", **arguments)
    three = corpus_rows.prepare(output_dir=tmp_path / "three", **{**arguments, "num_workers": 3})
    assert {**one, "seconds": 0} == {**three, "seconds": 0}
    for split in ("train", "validation"):
        first, second = (load_from_disk(str(tmp_path / name / split)) for name in ("one", "three"))
        assert first[:] == second[:]
        lengths = np.load(tmp_path / "one" / f"{split}_lengths.npy", mmap_mode="r")
        assert lengths.dtype == np.uint16
        assert lengths.tolist() == [len(ids) for ids in first["input_ids"]]
        assert str(first.features["input_ids"].feature.dtype) == "int32"


def test_no_row_crosses_a_document(tmp_path: Path, arguments: dict, tokenizer):
    file = tmp_path / "documents.txt"
    file.write_text("\n\n".join("\n".join(lines) for lines in DOCUMENTS), encoding="utf-8")
    arguments |= {"files": [file], "validation_fraction": 0, "max_length": 64}
    statistics = corpus_rows.prepare(output_dir=tmp_path / "out", **arguments)
    assert statistics["documents"] == statistics["rows"] == 3
    expected = [tokenizer(lines, add_special_tokens=False)["input_ids"] for lines in DOCUMENTS]
    assert [row[1:-1] for row in rows_of(tmp_path / "out")] == [sum(ids, []) for ids in expected]
    assert rows_of(tmp_path / "out", "validation") == []
    assert len(np.load(tmp_path / "out" / "validation_lengths.npy", mmap_mode="r")) == 0


def test_the_validation_rows_are_every_tenth_and_no_others(tmp_path: Path, arguments: dict, tokenizer):
    arguments["pack"] = False
    everything = corpus_rows.prepare(output_dir=tmp_path / "all", **{**arguments, "validation_fraction": 0})
    statistics = corpus_rows.prepare(output_dir=tmp_path / "split", **arguments)
    rows = rows_of(tmp_path / "all")
    assert rows_of(tmp_path / "split", "validation") == rows[9::10]
    assert rows_of(tmp_path / "split") == [row for number, row in enumerate(rows) if number % 10 != 9]
    assert statistics["train_rows"] + statistics["validation_rows"] == everything["rows"] == everything["lines_kept"]
    assert statistics["tokens"] == everything["tokens"] == sum(map(len, rows))
    lines = list(itertools.chain.from_iterable(blocks.blocks(arguments["files"], "text", TextStatistics())))
    assert statistics["truncated_rows"] == sum(len(ids) > 32 for ids in tokenizer(lines)["input_ids"]) > 0
    assert statistics["length_percentiles"]["50"] == np.percentile([len(r) for r in rows], 50, method="inverted_cdf")


def test_statistics_and_tokenizer_are_saved(tmp_path: Path, arguments: dict, tokenizer):
    statistics = corpus_rows.prepare(output_dir=tmp_path / "out", **arguments)
    assert json.loads((tmp_path / "out" / "statistics.json").read_text()) == statistics
    assert (statistics["pad_token_id"], statistics["vocabulary_size"]) == (0, len(tokenizer))
    saved = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    assert saved.get_vocab() == tokenizer.get_vocab()
    assert sorted(os.listdir(tmp_path / "out")) == [
        "statistics.json", "tokenizer", "train", "train_lengths.npy", "validation", "validation_lengths.npy"
    ]  # fmt: skip


def test_no_more_rows_are_held_out_than_an_evaluation_needs(tmp_path: Path, arguments: dict, monkeypatch):
    monkeypatch.setattr(arrow_rows, "MAX_HELD_OUT_ROWS", 3)
    statistics = corpus_rows.prepare(output_dir=tmp_path / "out", **arguments)
    assert statistics["rows"] * arguments["validation_fraction"] > 4
    assert statistics["validation_rows"] == len(rows_of(tmp_path / "out", "validation")) == 3
    assert statistics["train_rows"] == statistics["rows"] - 3


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_prepare_leaves_nothing(tmp_path: Path, arguments: dict, monkeypatch, failure: BaseException):
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(arrow_rows, "_write_split", fail)
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)  # as transformers' pipeline sets it, for good
    with pytest.raises(type(failure)):
        corpus_rows.prepare(output_dir=tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []
    assert "TOKENIZERS_PARALLELISM" not in os.environ


def test_bad_lines_and_empty_files_leave_nothing(tmp_path: Path, arguments: dict):
    file = tmp_path / "a.txt"
    for content, message in [
        (b"\n \n", r"no text in .*a.txt \(2 lines read"),
        (b"ok\n\xff", "a.txt, line 2: not UTF-8"),
    ]:
        file.write_bytes(content)
        with pytest.raises(CorpusError, match=message):
            corpus_rows.prepare(output_dir=tmp_path / "out", **{**arguments, "files": [file]})
        assert list(tmp_path.iterdir()) == [file]


def test_prepare_refuses_a_bad_tokenizer_and_an_existing_output(tmp_path: Path, arguments: dict):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=f"{tmp_path}/empty has no tokenizer"):
        corpus_rows.prepare(output_dir=tmp_path / "out", **{**arguments, "tokenizer_path": str(tmp_path / "empty")})
    with pytest.raises(CorpusError, match="max_length=2 leaves no room"):
        corpus_rows.prepare(output_dir=tmp_path / "out", **{**arguments, "max_length": 2})
    with pytest.raises(CorpusError, match="exists already"):
        corpus_rows.prepare(output_dir=tmp_path / "empty", **arguments)
