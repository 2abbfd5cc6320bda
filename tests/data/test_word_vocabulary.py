"""A vocabulary has the words and characters of the training texts, and rows are cut into them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kd_dist.config.sections.data import LabelledData
from kd_dist.config.sections.models import Vocabulary
from kd_dist.config.stages import VocabularyStage
from kd_dist.data.preprocessing import Preprocessing, segment_for
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.data.tokenizers import SPECIAL_TOKENS
from kd_dist.data.word_vocabulary import run, tokens_of
from kd_dist.errors import CorpusError


def made(folder: Path, train: list[str], validation: list[str], **settings: Any) -> Any:
    """Return the tokenizer that the stage makes of texts."""
    for name, texts in (("train", train), ("validation", validation)):
        lines = [f"{'ab'[number % 2]}\t{text}\n" for number, text in enumerate(texts)]
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    data = LabelledData(train=[str(folder / "train.tsv")], validation=[str(folder / "validation.tsv")])
    run(VocabularyStage(data=data, vocabulary=Vocabulary(**settings)), folder, 0)
    return load_tokenizer(folder / "tokenizer")


TRAIN = [f"今天的比赛{number}" for number in range(6)] + ["国家经济", "国家"]
VALIDATION = [f"明天下雨{number}" for number in range(6)]


def cut(tokenizer: Any, text: str) -> list[str]:
    preprocessing = Preprocessing(32, segment_for(tokenizer))
    (row,) = preprocessing.encode(tokenizer, [text])
    return tokenizer.convert_ids_to_tokens(row.input_ids)[1:-1]


def test_frequent_words_are_tokens_and_others_their_characters(tmp_path: Path) -> None:
    tokenizer = made(tmp_path, TRAIN, VALIDATION)
    assert cut(tokenizer, "今天国家比赛") == ["今天", "国", "家", "比赛"]  # 国家 is there twice, words five times


def test_held_out_texts_have_no_say(tmp_path: Path) -> None:
    tokenizer = made(tmp_path, TRAIN, VALIDATION)
    assert "明天" not in tokenizer.get_vocab()
    assert cut(tokenizer, "下雨") == ["[UNK]", "[UNK]"]


def test_without_words_every_character_is_a_token(tmp_path: Path) -> None:
    assert cut(made(tmp_path, TRAIN, VALIDATION, words=0), "今天比赛") == ["今", "天", "比", "赛"]


def test_the_most_frequent_words_are_kept(tmp_path: Path) -> None:
    tokenizer = made(tmp_path, [*TRAIN, "今天"], VALIDATION, words=1)
    assert cut(tokenizer, "今天比赛") == ["今天", "比", "赛"]


def test_texts_without_frequent_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no word of 2 training rows is frequent .*or set vocabulary.words=0"):
        made(tmp_path, ["今天的比赛", "国家经济"], VALIDATION)


def test_a_given_vocabulary_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join([*SPECIAL_TOKENS, "比赛", "国", "家"]), encoding="utf-8")
    tokenizer = made(tmp_path, TRAIN, VALIDATION, file=str(file))
    assert tokenizer.get_vocab()["比赛"] == 5
    assert cut(tokenizer, "国家比赛") == ["国", "家", "比赛"]


def test_words_are_spelt_as_the_tokenizer_spells_them_and_letters_continue_words() -> None:
    tokens = tokens_of(Counter({"Café": 5, "中": 3, "a": 2, "+": 2}), 10)
    assert set(tokens) == {*SPECIAL_TOKENS, "cafe", *"cafe中+", "##c", "##a", "##f", "##e"}
    assert len(set(tokens)) == len(tokens)
