"""Training gives the same BERT tokenizer every time, and only fast tokenizers are loaded."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from kd_dist.data.tokenizers import SPECIAL_TOKENS, load_fast_tokenizer, train_tokenizer
from kd_dist.errors import CorpusError


def test_the_trained_tokenizer_is_bert_with_single_characters(trained_tokenizer):
    assert trained_tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS) == [0, 1, 2, 3, 4]
    assert trained_tokenizer.tokenize("今天TEST") == ["今", "天", "test"]
    assert trained_tokenizer("今天")["input_ids"][0] == trained_tokenizer.cls_token_id
    assert type(trained_tokenizer).__name__.startswith("BertTokenizer")


def test_training_twice_gives_the_same_vocabulary(tmp_path: Path, random_text: Path):
    train_tokenizer([random_text], tmp_path / "one", vocabulary_size=60, text_field="text")
    train_tokenizer([random_text], tmp_path / "two", vocabulary_size=60, text_field="text")
    one, two = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("one", "two"))
    assert one.get_vocab() == two.get_vocab()
    assert len(one) <= 60


def test_training_needs_text_and_room(tmp_path: Path, random_text: Path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(CorpusError, match="no text in .*a.txt"):
        train_tokenizer([tmp_path / "a.txt"], tmp_path / "out", vocabulary_size=60, text_field="text")
    with pytest.raises(CorpusError, match="vocabulary_size=5 leaves no room"):
        train_tokenizer([random_text], tmp_path / "out", vocabulary_size=5, text_field="text")


def test_folders_without_a_tokenizer_are_refused(tmp_path: Path):
    with pytest.raises(CorpusError, match=f"{tmp_path} has no tokenizer"):
        load_fast_tokenizer(str(tmp_path))
