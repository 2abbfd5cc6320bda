"""Words that a tokenizer does not know are counted, said above one in twenty, and refused above one in five."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kd_dist.config.sections.data import LabelledData
from kd_dist.data import labelled
from kd_dist.data.corpus_rows import prepare as prepare_corpus
from kd_dist.data.data_report import summary
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.data.unknown_words import (
    SET_TOKENIZER,
    count_unknown_words,
    refuse_unknown_words,
    total,
    unknown_words_note,
)
from kd_dist.errors import CorpusError
from tests.model_folders import VOCABULARY, write_vocabulary


@pytest.fixture
def tokenizer_dir(tmp_path: Path) -> Path:
    """A tokenizer that knows ten characters, a to d and their continuations."""
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "config.json").write_text('{"model_type": "bert"}')
    write_vocabulary(tmp_path / "tokenizer", [*VOCABULARY, *"天地玄黄宇宙洪荒日月", "ab", "##cd"])
    return tmp_path / "tokenizer"


def test_words_are_counted_once_and_special_tokens_are_none(tokenizer_dir: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_dir)
    rows = tokenizer(["天地abcd", "玄zz", ""])["input_ids"]  # abcd is ab ##cd
    column = pa.chunked_array([pa.array(rows[:2], pa.list_(pa.int32())), pa.array(rows[2:], pa.list_(pa.int32()))])
    assert count_unknown_words(tokenizer, column) == {"words": 5, "unknown_words": 1}
    assert count_unknown_words(tokenizer, column.slice(1)) == {"words": 2, "unknown_words": 1}


@pytest.mark.parametrize(
    ("unknown", "words", "is_noted", "is_refused"),
    [(50, 1000, False, False), (51, 1000, True, False), (200, 1000, True, False), (201, 1000, True, True)]
    + [(12, 40, True, False), (32, 40, True, False), (33, 40, True, True), (0, 0, False, False)],
)
def test_the_limits(unknown: int, words: int, is_noted: bool, is_refused: bool) -> None:
    counts = {"words": words, "unknown_words": unknown}
    assert (unknown_words_note(counts) is not None) == is_noted
    if is_refused:
        with pytest.raises(CorpusError, match=rf"{unknown} of {words:,}\) are unknown to the tokenizer in T"):
            refuse_unknown_words(counts, "T", SET_TOKENIZER)
    else:
        refuse_unknown_words(counts, "T", SET_TOKENIZER)


def test_splits_add_up() -> None:
    assert total([{"words": 3, "unknown_words": 1, "rows": 9}, {"words": 4, "unknown_words": 0}]) == {
        "words": 7,
        "unknown_words": 1,
    }


def prepare(folder: Path, tokenizer_dir: Path, texts: list[str]) -> dict[str, Any]:
    rows = "".join(f"{'ab'[number % 2]}\t{text}\n" for number, text in enumerate(texts))
    (folder / "train.tsv").write_text(rows, encoding="utf-8")
    data = LabelledData(train=[str(folder / "train.tsv")], header="no", max_length=16, num_workers=1)
    return labelled.prepare(data, str(tokenizer_dir), folder / "tokens", folder / "texts.txt")


def test_labelled_rows(tmp_path: Path, tokenizer_dir: Path) -> None:
    known = "天地玄黄宇宙洪荒日月"
    turned = [known[turn:] + known[:turn] for turn in range(10)]
    report = prepare(tmp_path, tokenizer_dir, [*turned, *(text[1:] + "人" for text in turned)])
    counts = total(report[split] for split in ("train", "validation", "test"))
    assert counts == {"words": 200, "unknown_words": 10}
    assert "unknown" not in summary("labelled", report)
    report = prepare(tmp_path, tokenizer_dir, [text[1:] + "人" for text in turned])
    assert "10% of the words (10 of 100) are unknown to the tokenizer" in summary("labelled", report)
    with pytest.raises(CorpusError, match=r"30% of the words \(30 of 100\) are unknown.*set tokenizer.path"):
        prepare(tmp_path, tokenizer_dir, [text[3:] + "人山口" for text in turned])


def test_a_corpus(tmp_path: Path, tokenizer_dir: Path) -> None:
    file = tmp_path / "corpus.txt"
    arguments: dict[str, Any] = {"files": [file], "tokenizer_path": str(tokenizer_dir), "max_length": 16}
    arguments |= {"pack": True, "text_field": "text", "word_starts": False, "validation_fraction": 0, "num_workers": 1}
    known = "天地玄黄宇宙洪荒日月"
    turned = [known[turn:] + known[:turn] for turn in range(10)]
    file.write_text("".join(f"{text[1:]}人\n" for text in turned), encoding="utf-8")
    statistics = prepare_corpus(output_dir=tmp_path / "known", **arguments)
    assert (statistics["words"], statistics["unknown_words"]) == (100, 10)
    file.write_text("".join(f"{text[3:]}人山口\n" for text in turned), encoding="utf-8")
    with pytest.raises(CorpusError, match="30% of the words"):
        prepare_corpus(output_dir=tmp_path / "unknown", **arguments)
    assert not (tmp_path / "unknown").exists()
