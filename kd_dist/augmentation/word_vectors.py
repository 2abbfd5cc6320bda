"""Find similar words by word vectors, for words that a masked language model has no single piece for.

Shapes: V words of the file, W words asked for, E width of a vector.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_dist.data.lines import open_bytes
from kd_dist.errors import RunError

MAX_WORDS = 200_000  # words that are read of a file, frequent ones first; the published code reads 100,000

CHUNK = 128  # words compared with all others in one product: 100 MB of similarities

SPARE = 16  # further words that are ranked again, since rounding may have changed the order

MIN_COSINE = 0.45  # below it, the nearest word of a rare one may be any word


class WordVectors:
    """The words of a word2vec file, and which are similar by cosine.

    The mean of all vectors is subtracted first, because what they have in common makes rare words neighbours of
    everything (Mu and Viswanath 2018, "All-but-the-top"). The published code does not do this, and has no minimum
    cosine. `keep` says which words may be proposed; the others are not neighbours, but have neighbours.
    """

    def __init__(self, path: str, keep: Callable[[str], bool], device: torch.device) -> None:
        """Read the first 200,000 words of a file, text (with or without a header) or binary, plain or .gz.

        Raises:
            RunError: there is no such file, or it has no word vectors.
        """
        words, vectors_VE = _read(Path(path))
        vectors_VE -= vectors_VE.mean(axis=0)
        lengths_V1 = np.linalg.norm(vectors_VE, axis=1, keepdims=True)
        self._unit_VE = vectors_VE / np.maximum(lengths_V1, np.finfo(np.float32).tiny)
        self._words = words
        self._index = {word: index for index, word in enumerate(words)}
        self._kept = np.array([index for index, word in enumerate(words) if keep(word)], dtype=np.int64)
        self._compared = torch.from_numpy(self._unit_VE[self._kept]).to(device)
        self._near: dict[tuple[str, int], list[str]] = {}

    def near(self, words: Iterable[str], number: int) -> dict[str, list[str]]:
        """Return up to `number` neighbours of each word, nearest first, without itself; none for an unknown word.

        Results are cached; all new words are compared together.
        """
        asked = list(dict.fromkeys(words))
        new = [word for word in asked if (word, number) not in self._near and word in self._index]
        for start in range(0, len(new), CHUNK):
            chunk = new[start : start + CHUNK]
            self._near.update(
                ((word, number), near) for word, near in zip(chunk, self._nearest(chunk, number), strict=True)
            )
        return {word: self._near.get((word, number), []) for word in asked}

    def _nearest(self, words: list[str], number: int) -> list[list[str]]:
        queries = np.array([self._index[word] for word in words])
        similarity_WV = torch.from_numpy(self._unit_VE[queries]).to(self._compared.device) @ self._compared.T
        found = similarity_WV.topk(min(number + 1 + SPARE, similarity_WV.shape[1])).indices.cpu().numpy()
        return [
            [self._words[index] for index in self._in_order(query, self._kept[row])][:number]
            for query, row in zip(queries, found, strict=True)
        ]

    def _in_order(self, query: int, indices: np.ndarray) -> np.ndarray:
        """Sort again by a product for this word alone, since rounding depends on the other words of the chunk."""
        indices = np.sort(indices[indices != query])
        similarity = self._unit_VE[indices].astype(np.float64) @ self._unit_VE[query].astype(np.float64)
        order = np.argsort(-similarity, kind="stable")
        return indices[order[similarity[order] >= MIN_COSINE]]


def _read(path: Path) -> tuple[list[str], np.ndarray]:
    from gensim.models import KeyedVectors  # type: ignore[import-untyped]

    if not path.is_file():
        raise RunError(f"augment.word_vectors={path}: no such file; give a word2vec file, text or binary, plain or .gz")
    try:
        vectors = KeyedVectors.load_word2vec_format(
            str(path), limit=MAX_WORDS, unicode_errors="replace", **_layout(path)
        )
        if not len(vectors) or not np.isfinite(vectors.vectors).all():
            raise ValueError("no words, or values that are no numbers")
    except (ValueError, EOFError, IndexError, gzip.BadGzipFile, zlib.error) as error:
        raise RunError(
            f"augment.word_vectors={path} is not a word2vec file ({error}): expected a line `words width` and then a "
            "word with its vector, as text or binary; the first line may be missing in text"
        ) from error
    return vectors.index_to_key, vectors.vectors.astype(np.float32)


def _layout(path: Path) -> dict[str, bool]:
    """Return gensim's options for a file, from how it begins.

    Raises:
        ValueError: it does not begin like a word2vec file.
    """
    with open_bytes(path) as stream:
        first, second = stream.readline(1 << 16), stream.readline(1 << 16)
    if match := re.fullmatch(rb"\s*\d+\s+(\d+)\s*", first):
        return {"binary": not _is_text_vector(second, int(match[1])), "no_header": False}
    if _is_text_vector(first, len(first.split()) - 1):
        return {"binary": False, "no_header": True}
    raise ValueError(f"it begins with {first[:40]!r}")


def _is_text_vector(line: bytes, width: int) -> bool:
    numbers: list[Any] = line.rstrip().rsplit(b" ", width)[1:] if width > 0 else []
    try:
        return len(list(map(float, numbers))) == width > 0
    except ValueError:
        return False
