"""The part of a text that training sees."""

import itertools

from kd_dist.data.jieba_words import word_cutter
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.preprocessing import CHARACTERS_PER_TOKEN
from kd_dist.data.tokenizers import load_fast_tokenizer


class Window:
    """Cut texts to what training sees of them: the rest is not worth a forward pass, or a place in a copy."""

    def __init__(self, rows: PreparedRows) -> None:
        self._preprocessing = rows.preprocessing
        self._backend = load_fast_tokenizer(str(rows.tokenizer_folder)).backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()

    def __call__(self, text: str) -> str:
        """Return the beginning of a clean text that its first `max_length` tokens cover: enough to fill a row."""
        size = self._preprocessing.max_length
        text = text[: size * CHARACTERS_PER_TOKEN]
        ends = self._ends(text)
        return text if len(ends) <= size else text[: ends[size - 1]]

    def _ends(self, text: str) -> list[int]:
        """Return the character at which each token ends; words, which become one token or more, count as one."""
        if self._preprocessing.segment != "word":
            return [end for _, end in self._backend.encode(text, add_special_tokens=False).offsets]
        words = word_cutter().lcut(text, HMM=False)  # as the preprocessing cuts
        ends = itertools.accumulate(map(len, words))
        return [end for word, end in zip(words, ends, strict=True) if not word.isspace()]
