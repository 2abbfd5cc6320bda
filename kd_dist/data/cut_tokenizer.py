"""Cut the vocabulary of a tokenizer to the pieces that texts use, so that these texts stay the same pieces.

SentencePiece's unigram model and WordPiece allow it: a piece that is not used only competes with those that are. Byte
pairs (BPE) do not: a piece is made by merging others, which are not among those that are used in the end.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.data.blocks import TextStatistics, blocks
from kd_dist.data.cleaning import split_sentences
from kd_dist.errors import UserError

UNIGRAM, WORDPIECE = "Unigram", "WordPiece"
WORD_START = "▁"

Content = dict[str, Any]
"""What a tokenizer.json holds."""


def cut_tokenizer(tokenizer: Any, files: Sequence[Path], text_field: str, min_count: int) -> tuple[Any, list[int]]:
    """Return the tokenizer with the pieces that the texts of files use, and the former id of each of its tokens.

    Besides these it keeps all special and added tokens, all pieces of bytes, and of every character of the texts the
    pieces that are that character alone: other texts of these characters have no unknown words, whatever the words.

    Args:
        tokenizer: A fast tokenizer of transformers.
        files: The texts, as a corpus has them.
        text_field: The column of the text in files that have columns.
        min_count: How often a piece of several characters must occur in the texts to be kept.

    Raises:
        UserError: The tokenizer is neither a unigram model nor WordPiece.
        CorpusError: There is no text, or a file cannot be read.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    if (kind := content["model"]["type"]) not in (UNIGRAM, WORDPIECE):
        raise UserError(
            f"the vocabulary of {tokenizer.name_or_path} cannot be cut: its tokenizer is {kind}; those of the kinds "
            f"{UNIGRAM} (SentencePiece) and {WORDPIECE} (BERT) can"
        )
    counts, characters = _count(tokenizer, blocks(files, text_field, TextStatistics()))
    kept = _kept(content, tokenizer.get_vocab(), counts >= min_count, characters)
    return _rebuilt(tokenizer, _renumbered(content, kept)), kept


def _count(tokenizer: Any, texts: Iterable[list[str]]) -> tuple[np.ndarray, set[str]]:
    """Return how often each token occurs, by id, and the characters of the texts.

    A sentence is counted as part of its text and by itself, since a corpus is tokenized by sentences, and a piece may
    begin a sentence but no place within a text. The larger of the two counts.
    """
    size = max(tokenizer.get_vocab().values()) + 1
    whole, sentences = np.zeros(size, np.int64), np.zeros(size, np.int64)
    characters: set[str] = set()
    for lines in texts:
        whole += _occurrences(tokenizer, lines, size)
        sentences += _occurrences(tokenizer, list(itertools.chain.from_iterable(map(split_sentences, lines))), size)
        characters.update(*lines)
    normalizer = tokenizer.backend_tokenizer.normalizer
    return np.maximum(whole, sentences), {
        part for each in characters for part in (normalizer.normalize_str(each) if normalizer else each)
    }


def _occurrences(tokenizer: Any, lines: list[str], size: int) -> np.ndarray:
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    ids = itertools.chain.from_iterable(encoding.ids for encoding in encodings)
    return np.bincount(np.fromiter(ids, np.int64), minlength=size)


def _kept(content: Content, vocabulary: dict[str, int], is_used: np.ndarray, characters: set[str]) -> list[int]:
    """Return the ids of the tokens to keep, in order."""
    model = content["model"]
    prefixes = ("", WORD_START, model.get("continuing_subword_prefix") or "")
    single = {prefix + character for prefix in prefixes for character in characters}
    always = {token["id"] for token in content["added_tokens"]}
    always |= {vocabulary[piece] for piece in (*single, WORD_START) if piece in vocabulary}
    if model["type"] == WORDPIECE:
        always |= {vocabulary[model["unk_token"]]}
    else:
        pieces, scores = zip(*model["vocab"], strict=True)
        # The score of an unknown character is that of the least likely piece, less a constant.
        always |= {model["unk_id"], scores.index(min(scores))}
        always |= {vocabulary[piece] for piece in pieces if _is_byte(piece)}
    return sorted(always | set(np.flatnonzero(is_used).tolist()))


def _is_byte(piece: str) -> bool:
    """Return whether a piece is SentencePiece's name of a byte, such as <0x0A>."""
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _renumbered(content: Content, kept: Sequence[int]) -> Content:
    """Return a tokenizer.json with the kept tokens alone, numbered anew in their order."""
    new = {old: number for number, old in enumerate(kept)}
    model = dict(content["model"])
    if model["type"] == UNIGRAM:
        model["vocab"] = [each for old, each in enumerate(model["vocab"]) if old in new]
        model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {piece: new[old] for piece, old in model["vocab"].items() if old in new}
    return content | {
        "model": model,
        "added_tokens": [token | {"id": new[token["id"]]} for token in content["added_tokens"]],
        "post_processor": _renumbered_processor(content["post_processor"], new),
        "truncation": None,
        "padding": None,
    }


def _renumbered_processor(processor: Content | None, new: dict[int, int]) -> Content | None:
    """Return what adds special tokens: a template, or BERT's and RoBERTa's of their own; several may follow another."""
    if processor is None:
        return None
    changed = processor | {
        name: [processor[name][0], new[processor[name][1]]] for name in ("sep", "cls") if name in processor
    }
    if "processors" in processor:
        changed["processors"] = [_renumbered_processor(each, new) for each in processor["processors"]]
    if "special_tokens" in processor:
        changed["special_tokens"] = {
            name: token | {"ids": [new[number] for number in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    return changed


def _rebuilt(tokenizer: Any, content: Content) -> Any:
    """Return a tokenizer with this content and the special tokens and limits of another."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        **tokenizer.special_tokens_map,
    )
