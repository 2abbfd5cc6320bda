"""Preparing gives the same rows for any number of workers, splits them, and reuses what an equal run has made."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import load_from_disk
from transformers import AutoTokenizer

from kd_dist.data import arrow_rows, blocks, corpus_cache, corpus_rows
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


@pytest.fixture
def arguments(tiny: TinyWorld) -> dict:
    return {
        "files": [tiny.corpus],
        "tokenizer_path": str(tiny.tokenizer),
        "max_length": 32,
        "pack": True,
        "text_field": "text",
        "word_starts": False,
        "validation_fraction": 0.1,
        "num_workers": 1,
    }


def rows_of(folder: Path, split: str = "train") -> list[list[int]]:
    return load_from_disk(str(folder / split))["input_ids"][:]


def test_importing_is_cheap():
    code = (
        "import sys, kd_dist.data.corpus; "
        "print({'torch', 'transformers', 'datasets', 'pyarrow', 'jieba'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


# ---------------------------------------------------------------------------------------------------------- preparation


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


@pytest.mark.parametrize(
    ("num_rows", "fraction", "expected"),
    [
        (1, 0.5, 0),
        (2, 0.01, 1),
        (100, 0.01, 1),
        (100, 0.9, 50),
        (100, 0, 0),
        (2_000_000, 0.005, 10_000),
        (2_010_000, 0.005, 10_000),
        (100_000_000, 0.005, 10_000),
    ],
)
def test_the_size_of_validation(num_rows: int, fraction: float, expected: int):
    assert num_rows // arrow_rows._validation_period(num_rows, fraction) == expected


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
    with pytest.raises(CorpusError, match=f"no tokenizer can be loaded from {tmp_path}/empty"):
        corpus_rows.prepare(output_dir=tmp_path / "out", **{**arguments, "tokenizer_path": str(tmp_path / "empty")})
    with pytest.raises(CorpusError, match="max_length=2 leaves no room"):
        corpus_rows.prepare(output_dir=tmp_path / "out", **{**arguments, "max_length": 2})
    with pytest.raises(CorpusError, match="exists already"):
        corpus_rows.prepare(output_dir=tmp_path / "empty", **arguments)


# -------------------------------------------------------------------------------------------------------------- cache


def test_the_cache_is_reused_until_a_file_changes(tmp_path: Path, arguments: dict):
    file, cache, link = tmp_path / "a.txt", tmp_path / "cache", tmp_path / "runs" / "one" / "data"
    file.write_text("今天天气\n很好\n", encoding="utf-8")
    arguments["files"] = [file]
    first = corpus_cache.cached_prepare(cache, link, **arguments)
    again = corpus_cache.cached_prepare(cache, link, **{**arguments, "num_workers": 2})
    assert (first["cached"], again["cached"]) == (False, True)
    assert {**first, "cached": True} == again
    assert not os.path.isabs(os.readlink(link))
    before = link.resolve()
    file.write_text("今天天气\n很好\n我们\n", encoding="utf-8")
    changed = corpus_cache.cached_prepare(cache, link, **arguments)
    assert (changed["cached"], changed["lines_kept"]) == (False, 3)
    assert link.resolve() != before
    assert before.exists()
    assert sorted(os.listdir(link.parent)) == ["data"]
    assert len(os.listdir(cache)) == 2


def test_the_cache_spares_what_is_not_a_link(tmp_path: Path, arguments: dict):
    (tmp_path / "data").mkdir()
    with pytest.raises(CorpusError, match="data is not a link"):
        corpus_cache.cached_prepare(tmp_path / "cache", tmp_path / "data", **arguments)


def test_the_fingerprint_follows_content_not_place(tmp_path: Path, tiny: TinyWorld):
    file = Path(shutil.copy2(tiny.corpus, tmp_path / tiny.corpus.name))
    folder = shutil.copytree(tiny.tokenizer, tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"weights do not matter")
    reference = corpus_cache.fingerprint(
        files=[tiny.corpus], tokenizer_path=str(tiny.tokenizer), max_length=8, num_workers=1
    )
    assert corpus_cache.fingerprint(files=[file], tokenizer_path=str(folder), max_length=8, num_workers=2) == reference
    assert corpus_cache.fingerprint(files=[file], tokenizer_path=str(folder), max_length=9) != reference
    assert corpus_cache.fingerprint(files=[file], tokenizer_path=str(folder), max_length=8, max_lines=None) == reference
    assert corpus_cache.fingerprint(files=[file], tokenizer_path=str(folder), max_length=8, max_lines=9) != reference
    (folder / "tokenizer.json").write_text("{}")
    assert corpus_cache.fingerprint(files=[file], tokenizer_path=str(folder), max_length=8) != reference
