"""Turn texts into token ids, in the same way for training and prediction: saved with the rows and with the model.

Importing this module is cheap; jieba is imported when it segments words.
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

# A text is clipped first, so that a million characters cost no more than a thousand. Pieces of a vocabulary are far
# shorter, so only a text of giant unknown words (not a text at all) loses something that a row had room for.
CHARACTERS_PER_TOKEN = 64

# What BERT's tokenizer calls Chinese characters.
_CHARACTER = "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f]"
_CHINESE = re.compile(f"({_CHARACTER})")
_CHINESE_WORD = re.compile(f"{_CHARACTER}{{2,}}")

MIN_SHARE_OF_WORDS = 0.01  # of a vocabulary of words; those of WoBERT and RoFormer have 0.8, those of characters none


class Encoding(NamedTuple):
    """The tokens of a row, special tokens included; `truncated` says that the text did not fit."""

    input_ids: list[int]
    token_type_ids: list[int] | None
    truncated: bool


@dataclass(frozen=True)
class Preprocessing:
    """The way from a text to tokens.

    Attributes:
        max_length: tokens of a row, special ones included; at least 8.
        segment: how a text is segmented before the tokenizer sees it: `none`; `char`, spaces around every Chinese
            character; `word`, jieba words (see `_word_ids`).
        pairs: whether a row is two texts.
        hint_words: words by category. Those that occur in the first text are put before it, in this order, as a segment
            of their own: `[words][SEP][text]`. They are looked up in the text only, never by its label.
    """

    max_length: int
    segment: str = "none"
    pairs: bool = False
    hint_words: dict[str, list[str]] = field(default_factory=dict)

    def has_token_types(self, tokenizer: Any) -> bool:
        """Return whether rows have several segments that the model of the tokenizer distinguishes.

        Those of XLNet always have: its last token, which stands for the text, is a segment of its own.
        """
        has_several = self.pairs or bool(self.hint_words) or any(single_types(tokenizer))
        return has_several and "token_type_ids" in tokenizer.model_input_names

    def encode(self, tokenizer: Any, texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> list[Encoding]:
        """Return the encodings of raw texts: cleaned, segmented, with special tokens, truncated.

        A row that is too long loses tokens at the end of its longer segment (see `longest_first`). In a row of hint
        words and a pair, the words and the first text are one segment.

        Args:
            tokenizer: a fast tokenizer of transformers.
            texts: the texts, or the first texts of pairs.
            text_pairs: the second texts of pairs.

        Raises:
            UserError: pairs for a model of single texts or the reverse, or lists of unequal length.

        Example:
            >>> preprocessing = Preprocessing(max_length=8, segment="char")
            >>> preprocessing.encode(AutoTokenizer.from_pretrained("google-bert/bert-base-chinese"), ["今天天气"])
            [Encoding(input_ids=[101, 791, 1921, 1921, 3698, 102], token_type_ids=None, truncated=False)]
        """
        columns = [[clean(text) for text in column] for column in (texts, text_pairs) if column is not None]
        return self.encode_clean(tokenizer, *columns)

    def encode_clean(
        self, tokenizer: Any, texts: Sequence[str], text_pairs: Sequence[str] | None = None
    ) -> list[Encoding]:
        """Return the encodings of texts that are clean already.

        Raises:
            UserError: as `encode`.
        """
        self._check_pairs(texts, text_pairs)
        limit = self.max_length * CHARACTERS_PER_TOKEN
        columns = [list(column) for column in (texts, text_pairs) if column is not None]
        if self._loses_the_rest(tokenizer):
            more_than_fits = re.compile(f"(?:[^{_CHARACTER[1:]}*+{_CHARACTER}){{{self.max_length + 1}}}")
            columns = [[found[0] if (found := more_than_fits.match(text)) else text for text in texts]]
        clipped = [any(len(text) > limit for text in row) for row in zip(*columns, strict=True)]
        columns = [[text[:limit] for text in column] for column in columns]
        frame, with_types = _Frame.of(tokenizer), self.has_token_types(tokenizer)
        return [
            frame.around(first, second, self.max_length, with_types, was_clipped)
            for (first, second), was_clipped in zip(self._segments(tokenizer, frame, *columns), clipped, strict=True)
        ]

    def _loses_the_rest(self, tokenizer: Any) -> bool:
        """Return whether the beginning of a text, with more Chinese characters than fit in a row, is all that counts.

        That is where each of them is a token whatever follows; the tokens of a pair depend on the length of both texts.
        """
        if self.pairs or self.hint_words or self.segment == "word":
            return False
        backend, added = tokenizer.backend_tokenizer, tokenizer.added_tokens_decoder.values()
        return _is_berts(backend) and not any(_CHINESE.search(token.content) for token in added)

    def save(self, directory: Path) -> None:
        """Write `preprocessing.json`."""
        write_json(directory / FILE_NAME, asdict(self))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `preprocessing.json`.

        Raises:
            UserError: the folder does not have it.
        """
        path = directory / FILE_NAME
        if not path.exists():
            raise UserError(f"{path}: no such file; prepared rows have it, and every classifier that was made here")
        return cls(**read_json(path))

    def _check_pairs(self, texts: Sequence[str], text_pairs: Sequence[str] | None) -> None:
        if self.pairs and text_pairs is None:
            raise UserError("the model was trained on pairs of texts: give a second text for each")
        if not self.pairs and text_pairs is not None:
            raise UserError("the model was trained on single texts: give no second text")
        if text_pairs is not None and len(text_pairs) != len(texts):
            raise UserError(f"{len(texts)} texts, but {len(text_pairs)} second texts")

    def _segments(
        self, tokenizer: Any, frame: "_Frame", texts: list[str], text_pairs: list[str] | None = None
    ) -> Iterator[tuple[list[int], list[int] | None]]:
        """Return the token ids of both segments of every row, without the special tokens around them."""
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
        """Return the token ids of clean texts, without special tokens."""
        if self.segment == "word":
            return _word_ids(tokenizer, texts)
        if self.segment == "char":
            texts = [" ".join(_CHINESE.sub(r" \1 ", text).split()) for text in texts]
        return _plain_ids(tokenizer, texts)


def segment_for(tokenizer: Any) -> str:
    """Return the segmentation that a vocabulary is made for: `word` where it has words of several Chinese characters.

    BERT's tokenizer cuts texts into characters first, so that it never gives such a word by itself; a model that was
    trained on words, such as WoBERT, would silently get something else. Tokenizers of other kinds find words.
    """
    from tokenizers.models import WordPiece

    if not isinstance(tokenizer.backend_tokenizer.model, WordPiece):
        return "none"
    vocabulary = tokenizer.get_vocab()
    num_words = sum(_CHINESE_WORD.fullmatch(token) is not None for token in vocabulary)
    return "word" if num_words > MIN_SHARE_OF_WORDS * len(vocabulary) else "none"


def _is_berts(backend: Any) -> bool:
    """Return whether a tokenizer cuts texts into Chinese characters and words first, as BERT's."""
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    kinds = (backend.model, WordPiece), (backend.normalizer, BertNormalizer), (backend.pre_tokenizer, BertPreTokenizer)
    return all(isinstance(part, kind) for part, kind in kinds) and backend.normalizer.handle_chinese_chars


def word_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[list[int]]]:
    """Segment clean texts into the words of jieba's dictionary, and return the token ids of each word."""
    cut = word_cutter().cut
    words = [[word for word in cut(text, HMM=False) if not word.isspace()] for text in texts]
    distinct = list(dict.fromkeys(itertools.chain.from_iterable(words)))
    whole = map(_whole_word_id, itertools.repeat(tokenizer.backend_tokenizer), distinct)
    pieces = _plain_ids(tokenizer, distinct)
    ids = {w: p if i is None else [i] for w, p, i in zip(distinct, pieces, whole, strict=True)}
    return [[ids[word] for word in row] for row in words]


def single_types(tokenizer: Any) -> list[int]:
    """Return the token types of the special tokens after a single text; all before them are 0."""
    return _Frame.of(tokenizer).single_types


def num_token_types(tokenizer: Any) -> int:
    """Return how many token types the rows of a tokenizer may have."""
    frame = _Frame.of(tokenizer)
    return 1 + max(frame.second_type, *frame.single_types, *frame.pair_types, 0)


def default_max_length(num_positions: int | None) -> int:
    """Return the tokens of a row for a model that does not say: 128, or fewer if it has fewer positions."""
    return min(DEFAULT_MAX_LENGTH, num_positions or DEFAULT_MAX_LENGTH)


def _plain_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    # The Rust tokenizer itself, without offsets: the transformers call around it takes twice the time.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def _word_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Segment texts into the words of jieba's dictionary, as WoBERT does (Su 2020).

    A word of a WordPiece vocabulary is one token, other words are tokenized as usual. Other vocabularies
    (SentencePiece) mark the beginnings of words; for them the words are joined with spaces.
    """
    from tokenizers.models import WordPiece

    if isinstance(tokenizer.backend_tokenizer.model, WordPiece):
        return [list(itertools.chain.from_iterable(row)) for row in word_ids(tokenizer, texts)]
    cut = word_cutter().cut
    words = [[word for word in cut(text, HMM=False) if not word.isspace()] for text in texts]
    return _plain_ids(tokenizer, [" ".join(row) for row in words])


def _whole_word_id(backend: Any, word: str) -> int | None:
    """Return the id of a word in the vocabulary; the normalizer puts spaces around Chinese characters."""
    normal = backend.normalizer.normalize_str(word) if backend.normalizer else word
    return backend.token_to_id("".join(normal.split()))


class _Frame(NamedTuple):
    """The special tokens before, between and after two segments, and the token types.

    Those of the suffix are given for a single text and for a pair; all before the second segment are 0.
    """

    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    second_type: int
    single_types: list[int]
    pair_types: list[int]

    @classmethod
    def of(cls, tokenizer: Any) -> "_Frame":
        """Read what the post-processor of a tokenizer adds, from the encoding of a pair."""
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        probe = backend.encode("a", "a")
        segments = probe.sequence_ids  # None at special tokens
        middle = slice(len(segments) - segments[::-1].index(0), segments.index(1))
        end = len(segments) - segments[::-1].index(1)
        suffix, types = probe.ids[end:], probe.type_ids
        single_types = backend.encode("a").type_ids
        return cls(
            probe.ids[: segments.index(0)],
            probe.ids[middle],
            suffix,
            types[end - 1],
            single_types[len(single_types) - len(suffix) :],
            types[end:],
        )

    def around(
        self, first: list[int], second: list[int] | None, max_length: int, with_types: bool, truncated: bool
    ) -> Encoding:
        """Return the row of one or two segments; `truncated` says whether the text was clipped before."""
        room = max_length - len(self.prefix) - len(self.suffix)
        if second is None:
            body = [*self.prefix, *first[:room]]
            types = [0] * len(body) + self.single_types
            return Encoding(body + self.suffix, types if with_types else None, truncated or len(first) > room)
        num_first, num_second = longest_first(len(first), len(second), room - len(self.middle))
        head = [*self.prefix, *first[:num_first], *self.middle]
        tail = [*second[:num_second], *self.suffix]
        types = [0] * len(head) + [self.second_type] * num_second + self.pair_types
        lost = num_first < len(first) or num_second < len(second)
        return Encoding(head + tail, types if with_types else None, truncated or lost)


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens two segments keep if the longer one loses its last until both fit in `room`.

    This is what Hugging Face's fast tokenizers do: if `room` is odd, the segment that was longer keeps one more, or the
    second of two equal ones.
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
    """Read lines of `category<TAB>word word ...` and return clean words by category, in order, each once.

    Raises:
        CorpusError: a line without a category or without words.
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
