"""Count the words of texts that a tokenizer does not know."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from kd_dist.errors import CorpusError

MAX_UNKNOWN_SHARE = 0.2  # of the words; with more of them a model reads next to nothing of the texts
SET_TOKENIZER = "set tokenizer.path to one that is"
NOTED_UNKNOWN_SHARE = 0.05
MIN_WORDS = 100  # below which a few rare names are a fifth of the words
MAX_UNKNOWN_SHARE_OF_FEW = 0.8

Counts = dict[str, int]


def count_unknown_words(tokenizer: Any, input_ids: Any) -> Counts:
    """Count the words in rows of tokens, and those of them that are the unknown token.

    Special tokens and the pieces that continue a WordPiece word (`##...`) are no words of their own.

    Args:
        tokenizer: That made the tokens.
        input_ids: A pyarrow column of lists.
    """
    unknown = tokenizer.unk_token_id
    no_word = [number for number in tokenizer.all_special_ids if number != unknown]
    no_word += [number for token, number in tokenizer.get_vocab().items() if token.startswith("##")]
    words = unknown_words = 0
    for chunk in input_ids.chunks:
        ids = chunk.flatten().to_numpy()
        words += len(ids) - int(np.isin(ids, no_word).sum())
        unknown_words += 0 if unknown is None else int((ids == unknown).sum())
    return {"words": words, "unknown_words": unknown_words}


def total(counts: Iterable[Counts]) -> Counts:
    """Add up the counts of several splits."""
    parts = list(counts)
    return {key: sum(part[key] for part in parts) for key in ("words", "unknown_words")}


def unknown_share(counts: Counts) -> float:
    """Return the share of the words that are unknown."""
    return counts["unknown_words"] / max(counts["words"], 1)


def refuse_unknown_words(counts: Counts, tokenizer_path: str, way_out: str) -> None:
    """Refuse a tokenizer that does not know the words of the texts.

    Args:
        counts: Of all rows.
        tokenizer_path: The tokenizer that made them.
        way_out: Which setting to change.

    Raises:
        CorpusError: More than a fifth of the words are unknown to it, or of very few words more than four fifths.
    """
    share = unknown_share(counts)
    if share > MAX_UNKNOWN_SHARE and (counts["words"] >= MIN_WORDS or share > MAX_UNKNOWN_SHARE_OF_FEW):
        raise CorpusError(
            f"{_in_words(counts)} to the tokenizer in {tokenizer_path}: its vocabulary is not one for these texts "
            f"(another language or script, or a vocabulary that is damaged); {way_out}"
        )


def unknown_words_note(counts: Counts) -> str | None:
    """Return a note on how many words are unknown; None up to one in twenty."""
    return f"{_in_words(counts)} to the tokenizer" if unknown_share(counts) > NOTED_UNKNOWN_SHARE else None


def _in_words(counts: Counts) -> str:
    share = unknown_share(counts)
    return f"{share:.0%} of the words ({counts['unknown_words']:,} of {counts['words']:,}) are unknown"
