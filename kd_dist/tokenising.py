"""Blocks of lines -> rows of token ids, with the tokenizer's special tokens and, if asked, the jieba word starts.

Also loads the tokenizer, or trains one on the text. Importing this module is cheap: the tokenizer libraries and jieba
are imported where they are used.
"""

import contextlib
import functools
import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_dist.texts import CorpusError, TextStatistics, blocks, split_sentences

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


# ----------------------------------------------------------------------------------------------------------------- rows


class _Line(NamedTuple):
    """A tokenised line without special tokens."""

    ids: list[int]
    sentence_lengths: list[int]  # tokens in each sentence
    begins_word: list[bool]  # per token; empty when nobody asked


def tokenise_blocks(
    unit: list[list[str]], tokenizer: Any, max_length: int, pack: bool, word_starts: bool
) -> list[dict[str, Any]]:
    """Return the rows of a list of blocks: {"input_ids": [...], "truncated": bool} and, if asked, "word_starts".

    Every row carries the tokenizer's special tokens and at most `max_length` tokens with them. With `pack` the
    sentences of a block fill the rows greedily, in order; one that is longer than a row is cut; no token is lost.
    Without it a line is a row, cut at `max_length` (`truncated` says so). A line is tokenised whole, so the tokens are
    those the model sees when it is used; sentences only say where it may be cut. `word_starts` is true at special
    tokens and at the first token of each jieba word. Lines that have no token give no row, and no row holds lines of
    two blocks.
    """
    prefix, suffix = _special_tokens(tokenizer)
    budget = token_budget(tokenizer, max_length)
    encoded = _encode([line for block in unit for line in block], tokenizer, word_starts)
    rows = []
    for block in unit:
        lines = list(itertools.islice(encoded, len(block)))
        bodies = _packed(lines, budget) if pack else _one_per_line(lines, budget)
        for ids, begins_word, truncated in bodies:
            row: dict[str, Any] = {"input_ids": prefix + ids + suffix, "truncated": truncated}
            if word_starts:
                row["word_starts"] = [True] * len(prefix) + begins_word + [True] * len(suffix)
            rows.append(row)
    return rows


def token_budget(tokenizer: Any, max_length: int) -> int:
    """Return the tokens that a row has room for beside the special ones; raises CorpusError when there are none."""
    num_special = sum(map(len, _special_tokens(tokenizer)))
    if max_length <= num_special:
        raise CorpusError(f"max_length={max_length} leaves no room beside {num_special} special tokens")
    return max_length - num_special


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after a text.

    Fast tokenizers of transformers 5 have no `build_inputs_with_special_tokens`; the post-processor marks its own.
    """
    probe = tokenizer("a", return_special_tokens_mask=True)
    ids, mask = probe["input_ids"], probe["special_tokens_mask"]
    num_before = len(list(itertools.takewhile(bool, mask)))
    num_after = len(list(itertools.takewhile(bool, reversed(mask))))
    return ids[:num_before], ids[len(ids) - num_after :]


def _encode(lines: list[str], tokenizer: Any, word_starts: bool) -> Iterator[_Line]:
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


def _begins_word(line: str, first_characters: np.ndarray) -> np.ndarray:
    """Return which tokens begin a jieba word; of several tokens in one character (byte pieces) only the first can."""
    at_border = np.zeros(len(line) + 1, dtype=bool)
    at_border[np.cumsum([0, *map(len, word_cutter().cut(line))])] = True
    return at_border[first_characters] & (np.diff(first_characters, prepend=-1) > 0)


@functools.cache
def word_cutter() -> Any:
    """jieba's dictionary and `cut`, loaded once."""
    import jieba

    # jieba caches its dictionary in the shared /tmp under one name for everybody: another user's file would be in the
    # way, or be loaded. When the folder cannot be made jieba goes on without a cache.
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd_dist"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    jieba.dt.tmp_dir = str(folder)
    jieba.setLogLevel(logging.WARNING)
    return jieba.dt


def _one_per_line(lines: list[_Line], budget: int) -> Iterator[tuple[list[int], list[bool], bool]]:
    for line in lines:
        if line.ids:
            yield line.ids[:budget], line.begins_word[:budget], len(line.ids) > budget


def _packed(lines: list[_Line], budget: int) -> Iterator[tuple[list[int], list[bool], bool]]:
    ids = list(itertools.chain.from_iterable(line.ids for line in lines))
    begins_word = list(itertools.chain.from_iterable(line.begins_word for line in lines))
    start = 0
    for length in _row_lengths((length for line in lines for length in line.sentence_lengths), budget):
        yield ids[start : start + length], begins_word[start : start + length], False
        start += length


def _row_lengths(sentence_lengths: Iterable[int], budget: int) -> Iterator[int]:
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


# ----------------------------------------------------------------------------------------------------------- tokenizers


def load_fast_tokenizer(tokenizer_path: str) -> Any:
    """Load a tokenizer from a folder or a hub. Raises CorpusError when there is none, or it gives no offsets."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_path)
    except (OSError, ValueError) as error:
        raise CorpusError(f"no tokenizer can be loaded from {tokenizer_path}: {error}") from error
    if not tokenizer.is_fast:
        raise CorpusError(f"{tokenizer_path}: a slow tokenizer without offsets; convert it to a tokenizer.json")
    return tokenizer


def train_tokenizer(
    files: Sequence[Path], output_dir: Path, vocabulary_size: int, text_field: str, max_lines: int | None = None
) -> None:
    """Train a lower-casing BERT WordPiece tokenizer on the cleaned text and save it for `AutoTokenizer`.

    For machines without a model hub. Every Chinese character is a piece of its own; [PAD] [UNK] [CLS] [SEP] [MASK]
    are 0 to 4. The same text gives the same vocabulary, never larger than asked, smaller when the text has no more to
    give. Reads the files twice: for the characters, then for the words. Raises CorpusError when there is no text or no
    room for more than the special tokens.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizer

    room = vocabulary_size - len(SPECIAL_TOKENS)
    if room < 1:
        raise CorpusError(
            f"vocabulary_size={vocabulary_size} leaves no room beside {len(SPECIAL_TOKENS)} special tokens"
        )
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = _alphabet(blocks(files, text_field, TextStatistics(), max_lines), tokenizer, room)
    characters = [piece for piece in alphabet if len(piece) == 1]
    # The trainer breaks ties by hash order; fixed ids for the whole alphabet make the result repeatable.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        special_tokens=SPECIAL_TOKENS + alphabet,
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        show_progress=False,
    )
    lines = itertools.chain.from_iterable(blocks(files, text_field, TextStatistics(), max_lines))
    tokenizer.train_from_iterator(lines, trainer)
    BertTokenizer(vocab=tokenizer.get_vocab(), model_max_length=512).save_pretrained(output_dir)


def _alphabet(texts: Iterable[list[str]], tokenizer: Any, room: int) -> list[str]:
    """Return the most frequent characters, and with each that can continue a word its "##" form; at most `room`."""
    counts: Counter[str] = Counter()
    for block in texts:
        counts.update(tokenizer.normalizer.normalize_str("".join(block)))
    alphabet: list[str] = []
    for character in sorted(filter(str.strip, counts), key=lambda character: (-counts[character], character)):
        joined = tokenizer.normalizer.normalize_str(f"a{character}")
        continues = len(tokenizer.pre_tokenizer.pre_tokenize_str(joined)) == 1
        pieces = [character, f"##{character}"] if continues else [character]
        if len(alphabet) + len(pieces) > room:
            break
        alphabet += pieces
    return alphabet
