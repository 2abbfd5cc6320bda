"""Find the words that may replace each word of a text, by a masked language model, word vectors, or both."""

from collections.abc import Sequence
from typing import Any

from kd_dist.augmentation.masked_words import MaskedWords
from kd_dist.augmentation.sources import Sources
from kd_dist.augmentation.word_vectors import WordVectors
from kd_dist.augmentation.words import Word, kind_of
from kd_dist.config.sections.augmentation import Augment

MAX_MASKED_PIECES = 4  # of one word: most Chinese words and set phrases have no more characters


class Candidates:
    """Find candidates for each word."""

    def __init__(self, settings: Augment, model: "MaskedWords | None", vectors: "WordVectors | None") -> None:
        self._settings = settings
        self._model = model
        self._vectors = vectors

    @classmethod
    def of(cls, settings: Augment, sources: Sources, device: Any) -> "Candidates":
        """Load the model and the vectors that the settings name."""
        from kd_dist.augmentation.masked_words import MaskedWords
        from kd_dist.augmentation.word_vectors import WordVectors

        language = settings.language

        def may_replace(word: str) -> bool:
            return _fits_vectors(word, language) and kind_of(word, language) is not None

        path, file = sources
        vectors = WordVectors(file, may_replace, device) if file else None
        if vectors is None and settings.multi_piece == "vectors":
            print(
                "note: words of several pieces stay as they are; augment.word_vectors=FILE or augment.multi_piece=mask "
                "replaces them too",
                flush=True,
            )
        return cls(settings, MaskedWords(path, language, device) if path else None, vectors)

    def __call__(self, sentences: Sequence[Sequence[Word]]) -> list[dict[int, list[str]]]:
        """Return the candidates for each sentence, by the number of the word; words without any are left out."""
        found: list[dict[int, list[str]]] = [{} for _ in sentences]
        by_vectors = self._by_model(sentences, found)
        if self._vectors is not None:
            words = {sentences[row][index].text.lower() for row, index in by_vectors}
            near = self._vectors.near(sorted(words), self._settings.candidates)
            for row, index in by_vectors:
                word = sentences[row][index]
                found[row][index] = [text for text in near[word.text.lower()] if self._fits(word, text)]
        return [{index: texts for index, texts in sorted(each.items()) if texts} for each in found]

    def _by_model(
        self, sentences: Sequence[Sequence[Word]], found: list[dict[int, list[str]]]
    ) -> list[tuple[int, int]]:
        """Add the words that the language model proposes to `found`; return (sentence, number) of the other words."""
        eligible = [(row, i) for row, words in enumerate(sentences) for i, word in enumerate(words) if word.kind]
        if self._model is None:
            return [(row, i) for row, i in eligible if _fits_vectors(sentences[row][i].text, self._settings.language)]
        from kd_dist.augmentation.masked_words import Place

        pieces = [self._model.encode([word.text for word in words]) for words in sentences]
        most = MAX_MASKED_PIECES if self._settings.multi_piece == "mask" else 1
        masked = [(row, index) for row, index in eligible if 1 <= len(pieces[row][index]) <= most]
        proposed = self._model.propose(
            [Place(pieces[row], index) for row, index in masked],
            self._settings.candidates,
            lambda place, text: self._fits(sentences[masked[place][0]][masked[place][1]], text),
        )
        for (row, index), texts in zip(masked, proposed, strict=True):
            found[row][index] = texts
        return [(row, index) for row, index in eligible if len(pieces[row][index]) > most]

    def _fits(self, word: Word, text: str) -> bool:
        return text != word.text.lower() and kind_of(text, self._settings.language) == word.kind


def _fits_vectors(word: str, language: str) -> bool:
    return language == "en" or len(word) > 1
