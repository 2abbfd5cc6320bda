"""A tokenizer that segments texts into the words of jieba's dictionary by itself, as WoBERT does (Su 2020).

Exports of models with a vocabulary of words carry a copy of this file, with which transformers loads their tokenizer
wherever kd_dist is not installed, so it imports nothing else of kd_dist; jieba it needs.
"""

from typing import Any

import jieba
from tokenizers import NormalizedString, PreTokenizedString, Regex, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPACE = Regex(r"\s+")
PUNCTUATION = Regex(r"[!-/:-@\[-`{-~\p{P}]")


class WordTokenizer(PreTrainedTokenizerFast):
    """A WordPiece tokenizer of which every word of jieba's is one token if the vocabulary has it.

    `cleaning_steps` in its tokenizer_config.json is the number of steps of the normalizer that a text goes through
    before it is segmented; the others are for its words. There is no `__init__`: transformers would leave out the
    normalizer of a class that has one.
    """

    @classmethod
    def from_pretrained(cls, *arguments: Any, **settings: Any) -> "WordTokenizer":
        """Load the tokenizer of a folder or hub name, as transformers does, and let it segment texts."""
        tokenizer = super().from_pretrained(*arguments, **settings)
        backend, first = tokenizer.backend_tokenizer, tokenizer.init_kwargs["cleaning_steps"]
        steps = list(backend.normalizer)
        words = _Words(backend.get_vocab(), normalizers.Sequence(steps[first:]))
        backend.normalizer = normalizers.Sequence(steps[:first])
        backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(words)
        return tokenizer


class _Words:
    """The segmentation of a text: words of the vocabulary, and the characters or runs of letters of all others."""

    def __init__(self, vocabulary: dict[str, int], normalizer: Any) -> None:
        self._vocabulary, self._normalizer = vocabulary, normalizer

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        text.split(self._split)

    def _split(self, _: int, text: NormalizedString) -> list[NormalizedString]:
        parts, start = [], 0
        for word in jieba.cut(str(text), HMM=False):
            part = text[start : start + len(word)]
            start += len(word)
            if part is not None and not word.isspace():
                parts += self._pieces(part)
        return parts

    def _pieces(self, word: NormalizedString) -> list[NormalizedString]:
        self._normalizer.normalize(word)
        pieces = word.split(SPACE, "removed")  # the normalizer puts spaces around Chinese characters
        if "".join(map(str, pieces)) in self._vocabulary:
            word.replace(SPACE, "")
            return [word]
        return [part for piece in pieces for part in piece.split(PUNCTUATION, "isolated")]
