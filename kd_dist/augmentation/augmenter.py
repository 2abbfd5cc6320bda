"""TinyBERT's data augmentation (Jiao et al. 2020, algorithm 1), made right for Chinese and for millions of rows.

    shards/manifest.json            settings, models and data: what every block belongs to
           block_00000012.parquet   from rows 12 x 256 and on: text, text_pair, labels, row, copy (0: the original)

A block depends on its rows and the settings alone: shard i of n writes blocks i, i + n, ..., but for those that are
there, and any number of shards writes the same bytes (on one kind of device).

Of each row N copies are tried. In a copy every word that may be replaced is, independently and with probability p, by a
uniform choice of its M candidates: those of a masked language model for a word of one piece; for others near words by
vectors, or those of a mask over all pieces. A copy equal to the row or to an earlier copy is dropped, but counts as
tried. Labels are those of the row. What differs from the published code:

- Chinese words are jieba's; candidates are of the same part of speech; names, numbers, function words stay.
- The word itself is no candidate of the language model: it made replacements that replaced nothing.
- Vectors only stand for Chinese words of two characters and more: one alone says too little to have near words.
- A pair gives N copies of each text beside the *original* other; the published loop kept the last copy of the first.
- Text between the words stays as it is; the published code joins lower-cased tokens by spaces.
- Chance is a function of (seed, row, text, copy): a larger N only adds copies.
- Copies are of what training sees of a text, its first `max_length` tokens; the row itself stays as it is.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_dist.augmentation.blocks import Tally
from kd_dist.augmentation.candidates import Candidates
from kd_dist.augmentation.filter import Confidence
from kd_dist.augmentation.sources import Sources
from kd_dist.augmentation.words import Word, split_words
from kd_dist.config.sections.augmentation import Augment
from kd_dist.config.stages import AugmentStage
from kd_dist.data.jieba_words import word_cutter
from kd_dist.data.permutation import mix
from kd_dist.data.prepared_rows import TEXTS, PreparedRows
from kd_dist.data.preprocessing import CHARACTERS_PER_TOKEN
from kd_dist.data.tokenizers import load_fast_tokenizer


def copies(
    words: Sequence[Word], candidates: dict[int, list[str]], number: int, probability: float, seed: int
) -> Iterator[str]:
    """`number` texts in which words are replaced by chance; any of them may be equal, to the original too."""
    draws = np.random.Generator(np.random.PCG64(seed)).random((number, len(candidates), 2))
    for draw in draws:
        texts = [word.text for word in words]
        for (index, options), (chance, choice) in zip(candidates.items(), draw.tolist(), strict=True):
            if chance < probability:
                texts[index] = options[int(choice * len(options))]
        yield "".join(texts)


class Copy(NamedTuple):
    """Copy `number` of row `row`, both counted from 0: copy 0 is the row itself. `texts`: one, or the two of a pair."""

    row: int
    number: int
    texts: tuple[str, ...]


class Window:
    """What training sees of a text: no more of it is worth a forward pass, or a place in a copy."""

    def __init__(self, rows: PreparedRows) -> None:
        self._preprocessing = rows.preprocessing
        self._backend = load_fast_tokenizer(str(rows.tokenizer_folder)).backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()

    def __call__(self, text: str) -> str:
        """The beginning of a clean text that its first `max_length` tokens cover: enough to fill a row by itself."""
        size = self._preprocessing.max_length
        text = text[: size * CHARACTERS_PER_TOKEN]
        ends = self._ends(text)
        return text if len(ends) <= size else text[: ends[size - 1]]

    def _ends(self, text: str) -> list[int]:
        """Where each token ends, as a number of characters; of words at least one of the tokens that they become."""
        if self._preprocessing.segment != "word":
            return [end for _, end in self._backend.encode(text, add_special_tokens=False).offsets]
        words = word_cutter().lcut(text, HMM=False)  # as the preprocessing cuts
        ends = itertools.accumulate(map(len, words))
        return [end for word, end in zip(words, ends, strict=True) if not word.isspace()]


class Augmenter:
    """Rows in, rows and their copies out."""

    def __init__(
        self, settings: Augment, candidates: Candidates, window: Window, confidence: "Confidence | None"
    ) -> None:
        self._settings = settings
        self._candidates = candidates
        self._window = window
        self._confidence = confidence

    @classmethod
    def of(cls, stage: AugmentStage, sources: Sources) -> "Augmenter":
        """Load what the settings name, onto the GPU if there is one. Raises what `run` raises."""
        from kd_dist.models.device import own_device

        rows, confidence = PreparedRows(Path(stage.data.tokens)), None
        if stage.augment.keep_confidence is not None:
            assert stage.teacher.path is not None  # as `sources_of` has seen
            confidence = Confidence(stage.teacher.path, rows, own_device())
        candidates = Candidates.of(stage.augment, sources, own_device())
        return cls(stage.augment, candidates, Window(rows), confidence)

    def augmented(self, rows: Any, first_row: int) -> tuple[Any, Tally]:
        """The Arrow table of rows (text, text_pair, labels) `first_row`, `first_row` + 1, ..., each with its copies."""
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
        """The copies of a row that differ from what training sees of it, each of which is there once."""
        settings = self._settings
        found = {seen: 0}
        for column, (words, candidates) in enumerate(zip(sentences, options, strict=True)):
            seed = mix(settings.seed, first_row + row, column)
            new_texts = copies(words, candidates, settings.copies, settings.probability, seed)
            for number, text in enumerate(new_texts, start=1 + column * settings.copies):
                found.setdefault((*seen[:column], text, *seen[column + 1 :]), number)
        return [Copy(row, number, texts) for texts, number in found.items() if number]

    def _confident(self, written: list[Copy], labels: Any) -> list[Copy]:
        """Without the copies to which the teacher would not give their label; the rows themselves stay."""
        assert self._confidence is not None
        assert self._settings.keep_confidence is not None
        new = [copy for copy in written if copy.number]
        sure = self._confidence([copy.texts for copy in new], [labels[copy.row].as_py() for copy in new])
        kept = {
            copy for copy, probability in zip(new, sure, strict=True) if probability >= self._settings.keep_confidence
        }
        return [copy for copy in written if not copy.number or copy in kept]
