"""The tokenizer cuts texts into jieba's words without jieba, and reads unknown words the same way everywhere."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers.normalizers import Lowercase
from transformers import AutoTokenizer

from kd_dist.data.cleaning import clean
from kd_dist.data.jieba_words import word_cutter
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.word_tokenizer import END, MIN_COUNT, NO_WORDS, count_words, lower, word_tokenizer
from tests.conftest import TinyWorld

TEXTS = ["iPhone 6s,很好用!", "今天的天气很好", "T恤和卡拉OK", "AT&T 5.12万", "今天，天气……Ａ股大涨"]


@pytest.fixture(scope="module")
def lines(tiny: TinyWorld) -> list[str]:
    return [clean(line) for line in [*tiny.corpus.read_text(encoding="utf-8").splitlines(), *TEXTS] if line]


def frequent(texts: list[str]) -> Counter[str]:
    """The counts of texts all of whose words are frequent enough for a piece."""
    return count_words(texts * MIN_COUNT)


def words(tokenizer: Any, text: str) -> list[str]:
    (row,) = Preprocessing(max_length=512).encode(tokenizer, [text])
    return tokenizer.convert_ids_to_tokens(row.input_ids)


def test_texts_are_cut_into_the_words_of_jieba_in_lower_case(lines: list[str]) -> None:
    tokenizer = word_tokenizer(frequent(lines), 10**6)
    cut = word_cutter().cut
    for text in lines:
        expected = [lower(word) for word in cut(text, HMM=False) if not word.isspace()]
        assert words(tokenizer, text) == [*expected, END]


def test_a_saved_tokenizer_cuts_raw_texts_as_preprocessing_does(lines: list[str], tmp_path: Path) -> None:
    tokenizer = word_tokenizer(frequent(lines), 10**6)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, "", "  ", "没见过的😀词语 newword"]:
        assert (
            again(clean(text))["input_ids"]
            == [row.input_ids for row in Preprocessing(max_length=512).encode(tokenizer, [text])][0]
        )
    pair = again("今天", "天气")
    assert again.convert_ids_to_tokens(pair["input_ids"]) == ["今天", END, "天气", END]
    assert set(pair) == {"input_ids", "attention_mask"}


def test_a_word_without_a_piece_is_read_by_its_words_and_characters_and_these_by_their_bytes() -> None:
    tokenizer = word_tokenizer(Counter({"新能源": 9, "车": 9, "汽": 2, "火车": 4, "饕": 1}), 100)
    assert words(tokenizer, "新能源汽车") == ["新能源", "汽", "车", END]
    assert words(tokenizer, "火车") == ["火", "车", END]
    assert words(tokenizer, "饕") == ["<0xE9>", "<0xA5>", "<0x95>", END]
    assert words(tokenizer, "") == [END]
    assert tokenizer.unk_token_id not in tokenizer("😀\u0e01never")["input_ids"]


def test_the_most_frequent_words_get_a_piece_and_every_character() -> None:
    tokenizer = word_tokenizer(Counter({"天气": 9, "今天": 8, "昨天": 7}), 2)
    pieces = set(tokenizer.get_vocab()) - set(NO_WORDS)
    assert pieces == {"天气", "今天", *"天气今昨"}
    assert words(tokenizer, "昨天") == ["昨", "天", END]


def test_a_word_with_a_vector_is_not_rare() -> None:
    counts = Counter({"天气": 5, "恐龙": 1})
    assert words(word_tokenizer(counts, 100, {"恐龙"}.__contains__), "恐龙") == ["恐龙", END]


def test_the_same_texts_give_the_same_ids_whatever_their_order(lines: list[str]) -> None:
    one, other = (word_tokenizer(count_words(texts), 300).get_vocab() for texts in (lines, lines[::-1]))
    assert one == other


def test_words_are_lowered_as_the_tokenizer_does() -> None:
    for word in ("ΟΔΟΣ", "İSTANBUL", "ǅ", "ẞ"):
        assert lower(word) == Lowercase().normalize_str(word)
