"""Tokens of texts, counted without transformers."""

from pathlib import Path

from transformers import AutoTokenizer

from kd_dist.planning.lengths import token_counter
from tests.conftest import TinyWorld


def test_tokens_are_those_of_the_tokenizer(tiny: TinyWorld) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny.tokenizer)
    texts = ["今天天气很好", "国家", "a new world"]
    expected = [len(tokenizer(text)["input_ids"]) for text in texts]
    assert token_counter(str(tiny.tokenizer))([(text,) for text in texts]) == expected
    pair = len(tokenizer(texts[0], texts[1])["input_ids"])
    assert token_counter(str(tiny.tokenizer))([(texts[0], texts[1])]) == [pair]


def test_a_vocabulary_of_berts_is_enough(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n今\n天\n", encoding="utf-8")
    assert token_counter(str(tmp_path))([("今天",), ("今天今",)]) == [4, 5]


def test_without_a_tokenizer_characters_are_counted(tmp_path: Path) -> None:
    for path in (None, "@labelled/tokens", "hfl/on-the-hub"):
        assert token_counter(path)([("今天",), ("今天abcd",), ("今", "天")]) == [4, 5, 5]
