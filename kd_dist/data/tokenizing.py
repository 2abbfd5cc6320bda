"""Tokenize blocks of lines to rows of token ids, with special tokens and optionally the starts of jieba words.

Importing this module is cheap: jieba is imported when it is used.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from kd_dist.data.cleaning import split_sentences
from kd_dist.data.jieba_words import word_cutter
from kd_dist.data.preprocessing import segment_for, single_types, word_ids
from kd_dist.errors import CorpusError


class _Line(NamedTuple):
    """A tokenized line without special tokens."""

    ids: list[int]
    sentence_lengths: list[int]  # tokens in each sentence
    begins_word: list[bool]  # per token; empty if not requested


def tokenize_blocks(
    unit: list[list[str]], tokenizer: Any, max_length: int, pack: bool, word_starts: bool
) -> list[dict[str, Any]]:
    """Return the rows of a list of blocks.

    Lines are tokenized as a whole, so the tokens are those that the model sees when it is used; sentences only say
    where a line may be divided. Lines without tokens give no row, and no row has lines of two blocks.

    Args:
        unit: blocks of lines.
        max_length: tokens of a row, including the special tokens that every row has.
        pack: fill rows greedily with the sentences of a block, in order; a sentence that is longer than a row is
            divided, and no token is lost. Otherwise a line is a row, truncated.
        word_starts: add whether a token is special or the first of a jieba word.

    Returns:
        `{"input_ids": list of int, "truncated": bool}`; `"token_type_ids": list of int` if texts of the tokenizer have
        several; and, if requested, `"word_starts": list of bool`.
    """
    prefix, suffix = _special_tokens(tokenizer)
    suffix_types = single_types(tokenizer)
    budget = token_budget(tokenizer, max_length)
    encoded = _encode([line for block in unit for line in block], tokenizer, word_starts)
    rows = []
    for block in unit:
        lines = list(itertools.islice(encoded, len(block)))
        bodies = _packed(lines, budget) if pack else _one_per_line(lines, budget)
        for ids, begins_word, truncated in bodies:
            row: dict[str, Any] = {"input_ids": prefix + ids + suffix, "truncated": truncated}
            if any(suffix_types):
                row["token_type_ids"] = [0] * (len(prefix) + len(ids)) + suffix_types
            if word_starts:
                row["word_starts"] = [True] * len(prefix) + begins_word + [True] * len(suffix)
            rows.append(row)
    return rows


def token_budget(tokenizer: Any, max_length: int) -> int:
    """Return how many tokens a row has room for beside the special ones.

    Raises:
        CorpusError: there is no room.
    """
    num_special = sum(map(len, _special_tokens(tokenizer)))
    if max_length <= num_special:
        raise CorpusError(f"max_length={max_length} leaves no room beside {num_special} special tokens")
    return max_length - num_special


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens before and after a text.

    Fast tokenizers of transformers 5 have no `build_inputs_with_special_tokens`; the post-processor marks its own.
    """
    probe = tokenizer("a", return_special_tokens_mask=True)
    ids, mask = probe["input_ids"], probe["special_tokens_mask"]
    num_before = len(list(itertools.takewhile(bool, mask)))
    num_after = len(list(itertools.takewhile(bool, reversed(mask))))
    return ids[:num_before], ids[len(ids) - num_after :]


def _encode(lines: list[str], tokenizer: Any, word_starts: bool) -> Iterator[_Line]:
    if segment_for(tokenizer) == "word":
        yield from _encode_words(lines, tokenizer, word_starts)
        return
    # The Rust tokenizer itself: the transformers call around it builds lists of everything and takes twice the time.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    for line, encoding in zip(lines, backend.encode_batch(lines, add_special_tokens=False), strict=True):
        ids, sentences = encoding.ids, split_sentences(line)
        if len(sentences) == 1 and not word_starts:
            yield _Line(ids, [len(ids)], [])
            continue
        first_characters = np.maximum.accumulate(np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)[:, 0])
        # A token belongs to the sentence in which it begins.
        borders = np.searchsorted(first_characters, np.cumsum([0, *map(len, sentences[:-1])]))
        sentence_lengths = np.diff(borders, append=len(ids)).tolist()
        yield _Line(ids, sentence_lengths, _begins_word(line, first_characters).tolist() if word_starts else [])


def _encode_words(lines: list[str], tokenizer: Any, word_starts: bool) -> Iterator[_Line]:
    """Tokenize lines with a vocabulary of words, sentence by sentence, since no word goes on in the next one."""
    per_line = [split_sentences(line) for line in lines]
    encoded = iter(word_ids(tokenizer, list(itertools.chain.from_iterable(per_line))))
    for sentences in per_line:
        words_of = list(itertools.islice(encoded, len(sentences)))
        words = list(itertools.chain.from_iterable(words_of))
        yield _Line(
            list(itertools.chain.from_iterable(words)),
            [sum(map(len, sentence)) for sentence in words_of],
            [place == 0 for word in words for place in range(len(word))] if word_starts else [],
        )


def _begins_word(line: str, first_characters: np.ndarray) -> np.ndarray:
    """Return which tokens begin a jieba word; of several tokens of one character (byte pieces), only the first can."""
    at_border = np.zeros(len(line) + 1, dtype=bool)
    at_border[np.cumsum([0, *map(len, word_cutter().cut(line))])] = True
    return at_border[first_characters] & (np.diff(first_characters, prepend=-1) > 0)


def _one_per_line(lines: list[_Line], budget: int) -> Iterator[tuple[list[int], list[bool], bool]]:
    for line in lines:
        if line.ids:
            yield line.ids[:budget], line.begins_word[:budget], len(line.ids) > budget


def _packed(lines: list[_Line], budget: int) -> Iterator[tuple[list[int], list[bool], bool]]:
    ids = list(itertools.chain.from_iterable(line.ids for line in lines))
    begins_word = list(itertools.chain.from_iterable(line.begins_word for line in lines))
    start = 0
    for length in row_lengths((length for line in lines for length in line.sentence_lengths), budget):
        yield ids[start : start + length], begins_word[start : start + length], False
        start += length


def row_lengths(sentence_lengths: Iterable[int], budget: int) -> Iterator[int]:
    """Yield the tokens of each row when sentences are packed greedily into rows of at most `budget` tokens."""
    filled = 0
    for length in sentence_lengths:
        if filled + length > budget:
            if filled:
                yield filled
            num_full, length = divmod(length, budget)
            yield from itertools.repeat(budget, num_full)
            filled = 0
        filled += length
    if filled:
        yield filled
