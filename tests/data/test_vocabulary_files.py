"""A vocabulary that a user gives is read as it is, or refused with the line."""

from pathlib import Path

import pytest

from kd_dist.data.vocabulary_files import SPECIAL_TOKENS, read_vocabulary
from kd_dist.errors import CorpusError


def write(folder: Path, *tokens: str) -> Path:
    file = folder / "vocab.txt"
    file.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return file


def test_tokens_are_read_in_order(tmp_path: Path) -> None:
    assert read_vocabulary(write(tmp_path, *SPECIAL_TOKENS, "今天", "##a")) == [*SPECIAL_TOKENS, "今天", "##a"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"vocabulary.file=.*none.txt: no such file"):
        read_vocabulary(tmp_path / "none.txt")
    with pytest.raises(CorpusError, match=r"vocab.txt, line 7: '今天' is in line 6 already"):
        read_vocabulary(write(tmp_path, *SPECIAL_TOKENS, "今天", "今天"))
    with pytest.raises(CorpusError, match=r"vocab.txt lacks \[CLS\], \[SEP\]: give the vocab.txt of a BERT model"):
        read_vocabulary(write(tmp_path, "[PAD]", "[UNK]", "[MASK]", "今天"))
