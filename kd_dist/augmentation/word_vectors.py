"""Find similar words by word vectors, for words that a masked language model has no single piece for.

Shapes: V words of the file, W words asked for, E width of a vector.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from kd_dist.augmentation.sources import WORD_VECTORS
from kd_dist.data.word_vector_files import read_word_vectors

CHUNK = 128  # words compared with all others in one product: 100 MB of similarities

SPARE = 16  # further words that are ranked again, since rounding may have changed the order

MIN_COSINE = 0.45  # below it, the nearest word of a rare one may be any word


class WordVectors:
    """The words of a file of word vectors, and which are similar by cosine.

    The mean of all vectors is subtracted first, because what they have in common makes rare words neighbours of
    everything (Mu and Viswanath 2018, "All-but-the-top"). The published code does not do this, and has no minimum
    cosine. `keep` says which words may be proposed; the others are not neighbours, but have neighbours.
    """

    def __init__(self, path: str, keep: Callable[[str], bool], device: torch.device) -> None:
        """Read the first words of a file, and print what was left out of it.

        Raises:
            RunError: what `read_word_vectors` raises.
        """
        words, vectors_VE, notes = read_word_vectors(Path(path), WORD_VECTORS)
        for note in notes:
            print(f"note: {note}", flush=True)
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
