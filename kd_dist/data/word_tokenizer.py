"""A tokenizer of jieba's words that needs no jieba: a unigram model with the words that texts use.

jieba cuts a text into the words of its dictionary whose frequencies make the text most probable. That is a unigram
model, so the tokenizer of a served model can do the same from its own file, in transformers and wherever else a
tokenizer.json is read. The words of the texts that it was made of are jieba's (`cut` with HMM=False), in lower case.

A word without a piece of its own is read as the words and characters in it that have one, and a character without one
as the pieces of its bytes, which are its buckets: each means the same in training and in prediction. Rare words and
characters get no piece, so that there are texts from which a model learns to read what is unknown.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from kd_dist.data.jieba_words import word_cutter
from kd_dist.data.tokenizers import SPECIAL_TOKENS

PAD, UNKNOWN, _, END, MASK = SPECIAL_TOKENS

MIN_COUNT = 5  # of a word; word2vec leaves out those that are rarer, and of few texts a model learns more without them

MIN_COUNT_OF_CHARACTER = 2

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

NO_WORDS = [PAD, UNKNOWN, END, MASK, *BYTES]
"""The tokens that every vocabulary begins with."""

_IN_WORDS = re.compile(r"[\u4e00-\u9fd5a-zA-Z0-9+#&._%-]+")  # jieba cuts a text at all other characters first


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Count the words of clean texts, in lower case."""
    cut = word_cutter().cut
    words = itertools.chain.from_iterable(cut(text, HMM=False) for text in texts)
    counts = Counter(word for word in words if not word.isspace())
    lowered: Counter[str] = Counter()
    for word, count in counts.items():
        lowered[lower(word)] += count
    return lowered


def word_tokenizer(counts: Counter[str], size: int, has_vector: Callable[[str], bool] = lambda _: False) -> Any:
    """Return a fast tokenizer of transformers that puts [SEP] behind each text.

    Args:
        counts: The words of the texts, as `count_words` returns them.
        size: Words that get a piece, at most, the most frequent ones; characters get theirs besides.
        has_vector: Says of which words a vector is known: they are not rare, however often they occur.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    frequencies, logarithm = _dictionary()
    pieces = [*NO_WORDS, *frequent_pieces(counts, size, has_vector)]
    scores = [math.log(frequencies.get(piece, 1)) - logarithm for piece in pieces]
    unknown = pieces.index(UNKNOWN)
    backend = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=unknown, byte_fallback=True))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(END, pieces.index(END))]
    backend.post_processor = processors.TemplateProcessing(f"$A {END}", f"$A {END} $B:1 {END}:1", ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        sep_token=END,
        mask_token=MASK,
        model_input_names=["input_ids", "attention_mask"],
    )


def _dictionary() -> tuple[Counter[str], float]:
    """Return how often each of jieba's words occurs, in lower case, and the logarithm of their sum."""
    dictionary = word_cutter()
    dictionary.initialize()
    frequencies: Counter[str] = Counter()
    for word, frequency in dictionary.FREQ.items():
        if frequency and _IN_WORDS.fullmatch(word):  # 0: the beginning of a word
            frequencies[lower(word)] += frequency
    return frequencies, math.log(dictionary.total)


def frequent_pieces(counts: Counter[str], size: int, has_vector: Callable[[str], bool] = lambda _: False) -> list[str]:
    """Return the words and the characters that get a piece, frequent ones first."""
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    known = [word for word, count in counts.items() if count >= MIN_COUNT or has_vector(word)]
    frequent = sorted(known, key=lambda word: (-counts[word], word))[:size]
    common = {character for character, count in characters.items() if count >= MIN_COUNT_OF_CHARACTER}
    return sorted({*frequent, *common}, key=lambda piece: (-(counts[piece] or characters[piece]), piece))


def lower(word: str) -> str:
    """Return a word as the tokenizer's normalizer does: `str.lower` looks at neighbours, which it does not."""
    return "".join(map(str.lower, word))
