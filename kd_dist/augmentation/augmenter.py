"""TinyBERT's data augmentation (Jiao et al. 2020, algorithm 1), adapted to Chinese and to millions of rows.

For each row N copies are generated. In a copy each replaceable word is replaced independently with probability p by a
uniform choice from its M candidates. For a word that is a single piece of the vocabulary, these come from a masked
language model. For other words they are neighbours in a space of word vectors, or come from a mask over all pieces.
Copies that equal the row or an earlier copy are dropped, but count as tried. Copies keep the labels of the row.

Differences from the published code:

- Chinese words are those of jieba. Candidates have the same part of speech; names, numbers and function words stay.
- The word itself is not a candidate of the language model, since replacing a word by itself changes nothing.
- Word vectors are used for Chinese words of at least two characters: a single one is too ambiguous to have neighbours.
- A pair gives N copies of each text beside the *original* other; the published loop kept the last copy of the first.
- Text between the words is unchanged; the published code joins lower-cased tokens with spaces.
- The random numbers are a function of (seed, row, text, copy), so a larger N only adds copies.
- Copies are made of the part of a text that training sees, its first `max_length` tokens; the row itself is unchanged.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_dist.augmentation.candidates import Candidates
from kd_dist.augmentation.filter import Confidence
from kd_dist.augmentation.sources import Sources
from kd_dist.augmentation.window import Window
from kd_dist.augmentation.words import Word, split_words
from kd_dist.config.sections.augmentation import Augment
from kd_dist.config.stages import AugmentStage
from kd_dist.data.permutation import mix
from kd_dist.data.prepared_rows import TEXTS, PreparedRows
from kd_dist.runs.blocks import Tally


def copies(
    words: Sequence[Word], candidates: dict[int, list[str]], number: int, probability: float, seed: int
) -> Iterator[str]:
    """Yield copies of a text in which words are replaced at random; some may be equal to each other or to the text.

    Args:
        words: the text, as words that join to it.
        candidates: what may replace a word, by the word's number.
        number: how many copies to yield.
        probability: that of replacing a word that has candidates.
        seed: copy i depends on it and on i, not on `number`.
    """
    draws = np.random.Generator(np.random.PCG64(seed)).random((number, len(candidates), 2))
    for draw in draws:
        texts = [word.text for word in words]
        for (index, options), (chance, choice) in zip(candidates.items(), draw.tolist(), strict=True):
            if chance < probability:
                texts[index] = options[int(choice * len(options))]
        yield "".join(texts)


class Copy(NamedTuple):
    """A copy of a row, both counted from 0: copy 0 is the row itself. `texts` are one, or the two of a pair."""

    row: int
    number: int
    texts: tuple[str, ...]


class Augmenter:
    """Add copies to rows."""

    def __init__(
        self, settings: Augment, candidates: Candidates, window: Window, confidence: "Confidence | None"
    ) -> None:
        self._settings = settings
        self._candidates = candidates
        self._window = window
        self._confidence = confidence

    @classmethod
    def of(cls, stage: AugmentStage, sources: Sources) -> "Augmenter":
        """Load the models and vectors that the settings name, onto the GPU if there is one.

        Raises:
            UserError: the teacher's labels are not those of the data.
            RunError: a file that is not what its option says.
        """
        from kd_dist.models.device import own_device

        rows, confidence = PreparedRows(Path(stage.data.tokens)), None
        if stage.augment.keep_confidence is not None:
            assert stage.teacher.path is not None  # as `sources_of` has seen
            confidence = Confidence(stage.teacher.path, rows, own_device())
        candidates = Candidates.of(stage.augment, sources, own_device())
        return cls(stage.augment, candidates, Window(rows), confidence)

    def augmented(self, rows: Any, first_row: int) -> tuple[Any, Tally]:
        """Return rows, each followed by its copies, and what became of the copies.

        Args:
            rows: an Arrow table of text, text_pair (for pairs) and labels.
            first_row: the number of the first row in the data.

        Returns:
            An Arrow table with the columns of `rows`, `row` and `copy`, and the tally.
        """
        import pyarrow as pa

        columns = [name for name in TEXTS if name in rows.column_names]
        texts = list(zip(*(rows.column(name).to_pylist() for name in columns), strict=True))
        labels = rows.column("labels").combine_chunks()
        written, tally = self._copies(texts, first_row)
        if self._confidence is not None:
            before = len(written)
            written = self._confident(written, labels)
            tally["refused"] = before - len(written)
        sources = [copy.row for copy in written]
        arrays = {name: [copy.texts[column] for copy in written] for column, name in enumerate(columns)}
        table = pa.table(
            {name: pa.array(array, pa.string()) for name, array in arrays.items()}
            | {
                "labels": labels.take(pa.array(sources)),
                "row": pa.array([first_row + source for source in sources], pa.int64()),
                "copy": pa.array([copy.number for copy in written], pa.int32()),
            }
        )
        return table, tally

    def _copies(self, rows: list[tuple[str, ...]], first_row: int) -> tuple[list[Copy], Tally]:
        seen = [tuple(map(self._window, texts)) for texts in rows]
        sentences = [[split_words(text, self._settings.language) for text in texts] for texts in seen]
        flat = list(itertools.chain.from_iterable(sentences))
        candidates = self._candidates(flat)
        tally = Tally(
            rows=len(rows),
            words=sum(word.kind is not None for words in flat for word in words),
            replaceable=sum(map(len, candidates)),
            tried=len(flat) * self._settings.copies,
        )
        written: list[Copy] = []
        remaining = iter(candidates)
        for row, original in enumerate(rows):
            options = list(itertools.islice(remaining, len(original)))
            written.append(Copy(row, 0, original))
            written += self._copies_of_row(row, seen[row], sentences[row], options, first_row)
        tally["equal"] = tally["tried"] + len(rows) - len(written)
        return written, tally

    def _copies_of_row(
        self,
        row: int,
        seen: tuple[str, ...],
        sentences: list[list[Word]],
        options: list[dict[int, list[str]]],
        first_row: int,
    ) -> list[Copy]:
        """Return the copies of a row, each once, without those that equal what training sees of the row."""
        settings = self._settings
        found = {seen: 0}
        for column, (words, candidates) in enumerate(zip(sentences, options, strict=True)):
            seed = mix(settings.seed, first_row + row, column)
            new_texts = copies(words, candidates, settings.copies, settings.probability, seed)
            for number, text in enumerate(new_texts, start=1 + column * settings.copies):
                found.setdefault((*seen[:column], text, *seen[column + 1 :]), number)
        return [Copy(row, number, texts) for texts, number in found.items() if number]

    def _confident(self, written: list[Copy], labels: Any) -> list[Copy]:
        """Drop the copies whose label the teacher does not predict with confidence; rows themselves are kept."""
        assert self._confidence is not None
        assert self._settings.keep_confidence is not None
        new = [copy for copy in written if copy.number]
        confidence = self._confidence([copy.texts for copy in new], [labels[copy.row].as_py() for copy in new])
        kept = {
            copy
            for copy, probability in zip(new, confidence, strict=True)
            if probability >= self._settings.keep_confidence
        }
        return [copy for copy in written if not copy.number or copy in kept]
