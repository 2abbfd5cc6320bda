"""The lengths of texts in tokens, counted with the tokenizer's own files but without transformers."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kd_dist.config.stage import WIRE
from kd_dist.data.readers import Texts

SPECIAL_TOKENS = 2

_CHINESE = re.compile("[\u3400-\u9fff\uf900-\ufaff]")

CHARACTERS_PER_TOKEN = 4  # of alphabets, where no tokenizer is at hand


def token_counter(path: str | None) -> Callable[[Sequence[Texts]], list[int]]:
    """Return a function that counts the tokens of rows, special ones included.

    Args:
        path: The folder of the tokenizer. Where it is a name on the hub, made by the job or trained on a corpus, a
            Chinese character counts as a token, and four letters do.
    """
    tokenizer = None if path is None or path.startswith(WIRE) else _tokenizer(Path(path))
    if tokenizer is None:
        return lambda rows: [sum(map(_guess, texts)) + 1 + len(texts) for texts in rows]
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda rows: [len(one.ids) for one in tokenizer.encode_batch([_as_input(texts) for texts in rows])]


def _as_input(texts: Texts) -> Any:
    return texts[0] if len(texts) == 1 else texts


def _tokenizer(folder: Path) -> Any:
    """Load what a folder has for the Rust tokenizers; None if there is nothing."""
    import tokenizers

    if (folder / "tokenizer.json").is_file():
        return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    if (folder / "vocab.txt").is_file():
        return tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"))
    return None


def _guess(text: str) -> int:
    chinese = len(_CHINESE.findall(text))
    return chinese + -(-(len(text) - chinese) // CHARACTERS_PER_TOKEN)
