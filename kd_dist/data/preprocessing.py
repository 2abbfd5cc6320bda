"""Text -> token ids, one and the same for training and for prediction: saved beside the rows and beside the model.

Importing this module is cheap; jieba is imported when words are cut.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from kd_dist.data.cleaning import clean
from kd_dist.data.jieba_words import word_cutter
from kd_dist.data.lines import numbered_lines
from kd_dist.errors import CorpusError, UserError
from kd_dist.files import read_json, write_json

FILE_NAME = "preprocessing.json"
DEFAULT_MAX_LENGTH = 128

# A text is clipped before anything looks at it, so that a million characters cost what a thousand do. Pieces of a
# vocabulary are far shorter, so only a text full of giant unknown words (no text at all) loses what a row had room for.
CHARACTERS_PER_TOKEN = 64

# What BERT's tokenizer calls Chinese characters.
_CHINESE = re.compile(
    "([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f])"
)


class Encoding(NamedTuple):
    """The tokens of a row, special tokens included; `truncated` when the text did not fit."""

    input_ids: list[int]
    token_type_ids: list[int] | None
    truncated: bool


@dataclass(frozen=True)
class Preprocessing:
    """How a text becomes tokens.

    `max_length`: tokens of a row, special ones included; at least 8. `segment`: how a text is cut before the tokenizer
    sees it: `none`; `char`, spaces around every Chinese character; `word`, jieba words (see `_word_ids`). `pairs`: a
    row is two texts. `hint_words`: words by category; those that occur in the first text are put before it, in this
    order, as a segment of their own: `[words][SEP][text]`. They are found in the text alone, never by its label.
    """

    max_length: int
    segment: str = "none"
    pairs: bool = False
    hint_words: dict[str, list[str]] = field(default_factory=dict)

    def has_token_types(self, tokenizer: Any) -> bool:
        """Whether rows have two segments that the tokenizer's model tells apart."""
        return (self.pairs or bool(self.hint_words)) and "token_type_ids" in tokenizer.model_input_names

    def encode(self, tokenizer: Any, texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> list[Encoding]:
        """Return the encodings of raw texts: cleaned, cut into segments, special tokens added, truncated.

        What is too long loses tokens at its end; of two segments always the longer one does (`longest_first`). In a
        row of hint words and a pair, the words and the first text are one segment.

        Raises:
            UserError: pairs where single texts were learnt, or the reverse, or lists of unequal length.
        """
        self._check_pairs(texts, text_pairs)
        limit = self.max_length * CHARACTERS_PER_TOKEN
        columns = [[clean(text) for text in column] for column in (texts, text_pairs) if column is not None]
        clipped = [any(len(text) > limit for text in row) for row in zip(*columns, strict=True)]
        columns = [[text[:limit] for text in column] for column in columns]
        frame, with_types = _Frame.of(tokenizer), self.has_token_types(tokenizer)
        return [
            frame.around(first, second, self.max_length, with_types, was_clipped)
            for (first, second), was_clipped in zip(self._segments(tokenizer, frame, *columns), clipped, strict=True)
        ]

    def save(self, directory: Path) -> None:
        """Write `preprocessing.json`."""
        write_json(directory / FILE_NAME, asdict(self))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote. Raises UserError when the folder has none."""
        path = directory / FILE_NAME
        if not path.exists():
            raise UserError(f"{path}: no such file; prepared rows have it, and every classifier that was made here")
        return cls(**read_json(path))

    def _check_pairs(self, texts: Sequence[str], text_pairs: Sequence[str] | None) -> None:
        if self.pairs and text_pairs is None:
            raise UserError("the model was taught on pairs of texts: give a second text for each")
        if not self.pairs and text_pairs is not None:
            raise UserError("the model was taught on single texts: a second text has no place")
        if text_pairs is not None and len(text_pairs) != len(texts):
            raise UserError(f"{len(texts)} texts, but {len(text_pairs)} second texts")

    def _segments(
        self, tokenizer: Any, frame: "_Frame", texts: list[str], text_pairs: list[str] | None = None
    ) -> Iterator[tuple[list[int], list[int] | None]]:
        """Token ids of the first and second segment of every row, without the special tokens around them."""
        bodies = self._ids(tokenizer, texts)
        hints = self._ids(tokenizer, [self._hints(text) for text in texts]) if self.hint_words else [[]] * len(texts)
        if text_pairs is None:
            return ((hint, body) if hint else (body, None) for hint, body in zip(hints, bodies, strict=True))
        firsts = ([*hint, *frame.middle, *body] if hint else body for hint, body in zip(hints, bodies, strict=True))
        return zip(firsts, self._ids(tokenizer, text_pairs), strict=True)

    def _hints(self, text: str) -> str:
        words = itertools.chain.from_iterable(self.hint_words.values())
        return " ".join(dict.fromkeys(word for word in words if word in text))

    def _ids(self, tokenizer: Any, texts: list[str]) -> list[list[int]]:
        """Token ids of clean texts, without special tokens."""
        if self.segment == "word":
            return _word_ids(tokenizer, texts)
        if self.segment == "char":
            texts = [" ".join(_CHINESE.sub(r" \1 ", text).split()) for text in texts]
        return _plain_ids(tokenizer, texts)


def default_max_length(num_positions: int | None) -> int:
    """Return how many tokens a row of a model from elsewhere may have: 128, or fewer where it has fewer positions."""
    return min(DEFAULT_MAX_LENGTH, num_positions or DEFAULT_MAX_LENGTH)


def _plain_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    # The Rust tokenizer itself, without offsets: the transformers call around it takes twice the time.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def _word_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Cut texts into the words of jieba's dictionary, as WoBERT does (Su 2020).

    A word that a WordPiece vocabulary has is one token, any other what the tokenizer makes of it. The other kinds of
    vocabulary (SentencePiece) mark the beginnings of words: they get the words with spaces between them.
    """
    from tokenizers.models import WordPiece

    cut = word_cutter().cut
    words = [[word for word in cut(text, HMM=False) if not word.isspace()] for text in texts]
    if not isinstance(tokenizer.backend_tokenizer.model, WordPiece):
        return _plain_ids(tokenizer, [" ".join(row) for row in words])
    distinct = list(dict.fromkeys(itertools.chain.from_iterable(words)))
    whole = map(_whole_word_id, itertools.repeat(tokenizer.backend_tokenizer), distinct)
    pieces = _plain_ids(tokenizer, distinct)
    ids = {w: p if i is None else [i] for w, p, i in zip(distinct, pieces, whole, strict=True)}
    return [list(itertools.chain.from_iterable(map(ids.__getitem__, row))) for row in words]


def _whole_word_id(backend: Any, word: str) -> int | None:
    """The id of a word that is in the vocabulary; the normaliser puts spaces around Chinese characters."""
    normal = backend.normalizer.normalize_str(word) if backend.normalizer else word
    return backend.token_to_id("".join(normal.split()))


class _Frame(NamedTuple):
    """The special tokens before, between and after the segments, and the token type of the second segment."""

    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    second_type: int

    @classmethod
    def of(cls, tokenizer: Any) -> "_Frame":
        """Read off a pair of probes what the tokenizer's post-processor puts around them."""
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        probe = backend.encode("a", "a")
        segments = probe.sequence_ids  # None at special tokens
        middle = slice(len(segments) - segments[::-1].index(0), segments.index(1))
        end = len(segments) - segments[::-1].index(1)
        return cls(probe.ids[: segments.index(0)], probe.ids[middle], probe.ids[end:], probe.type_ids[end - 1])

    def around(
        self, first: list[int], second: list[int] | None, max_length: int, with_types: bool, truncated: bool
    ) -> Encoding:
        """The row of one or two segments; `truncated` says whether something was lost before."""
        room = max_length - len(self.prefix) - len(self.suffix)
        if second is None:
            ids = [*self.prefix, *first[:room], *self.suffix]
            return Encoding(ids, [0] * len(ids) if with_types else None, truncated or len(first) > room)
        num_first, num_second = longest_first(len(first), len(second), room - len(self.middle))
        head = [*self.prefix, *first[:num_first], *self.middle]
        tail = [*second[:num_second], *self.suffix]
        types = [0] * len(head) + [self.second_type] * len(tail)
        lost = num_first < len(first) or num_second < len(second)
        return Encoding(head + tail, types if with_types else None, truncated or lost)


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Tokens that are kept of two segments when the longer one gives up its last until both fit in `room`.

    As Hugging Face's fast tokenizers do: of an odd room the segment that was longer keeps one more, the second of two
    equal ones.
    """
    if first + second <= room:
        return first, second
    half = room // 2
    if first > second:
        kept = min(second, half)
        return room - kept, kept
    kept = min(first, half)
    return kept, room - kept


def read_hint_words(path: Path) -> dict[str, list[str]]:
    """Read `category<TAB>word word ...` lines: clean words by category, in order, each once.

    Raises CorpusError for a line without a category or without words.
    """
    found: dict[str, list[str]] = {}
    for number, line in numbered_lines(path):
        category, _, words = line.partition("\t")
        if not line.strip():
            continue
        if not category.strip() or not words.strip():
            raise CorpusError(f"{path}, line {number}: expected `category<TAB>word word ...`, found {line[:60]!r}")
        found.setdefault(category.strip(), []).extend(clean(words).split())
    return {category: list(dict.fromkeys(words)) for category, words in found.items()}
