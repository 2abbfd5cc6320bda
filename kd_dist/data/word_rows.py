"""The words stage: the rows that a teacher is fed, as rows of the words that a student reads.

    tokens/       the labelled rows
    unlabelled/   the training rows without labels, those of all folders in order

A row keeps the key of what the teacher is fed for it, so its logits are found whatever the student reads. The words are
those of the text of the row or, where only its tokens are there, of the text that these stand for.

Shapes: V words of the vocabulary, E width of a vector.
"""

import functools
import itertools
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.config.stages import WordsStage
from kd_dist.data.arrow_rows import quiet, rows_of_units, save_split, write_splits
from kd_dist.data.cleaning import clean
from kd_dist.data.prepared_rows import (
    SPLITS,
    TEACHER_KEY,
    TEXTS,
    PreparedRows,
    share_held_out,
    write_data_report,
    write_encoding,
    write_own_words,
    write_statistics,
)
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.token_rows import FED, row_key
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.data.word_tokenizer import MASK, NO_WORDS, count_words, lower, word_tokenizer
from kd_dist.data.word_vector_files import read_word_vectors
from kd_dist.errors import RunError
from kd_dist.files import replaced_folder

WORD_VECTORS = "student.word_vectors"  # the setting

BATCH_ROWS = 4_096

COUNTED_ROWS = 1_000_000  # of a folder: they tell which words are frequent, and cost jieba minutes

Batch = dict[str, Any]

Vectors = dict[str, np.ndarray]

_CHINESE = "[\u3400-\u9fff]"
_BETWEEN_CHINESE = re.compile(f"(?<={_CHINESE}) +(?={_CHINESE})")


@dataclass(frozen=True)
class Reading:
    """How a student reads the rows that a teacher is fed: pairs too, but no hint words, which only repeat a text.

    Attributes:
        teacher: folder of the tokenizer that made the rows.
        student: folder of the student's tokenizer.
        max_length: words of a row.
        pairs: whether a row is two texts.
    """

    teacher: Path
    student: Path
    max_length: int
    pairs: bool

    @property
    def preprocessing(self) -> Preprocessing:
        """The way from a text to the student's words, which its tokenizer cuts."""
        return Preprocessing(self.max_length, pairs=self.pairs)


def run(stage: WordsStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/tokens and, where there are rows without labels, `stage_dir`/unlabelled.

    They replace what an earlier run wrote.

    Raises:
        RunError: the rows have no labels, what `read_word_vectors` raises, or none of the words has a vector.
    """
    started, tokens, settings = time.monotonic(), stage_dir / "tokens", stage.student
    source = PreparedRows(Path(stage.data.tokens))
    source.require_labels()
    more = [PreparedRows(Path(folder)) for folder in stage.data.unlabelled_tokens]
    before = source.preprocessing
    reading = Reading(source.tokenizer_folder, PreparedRows(tokens).tokenizer_folder, before.max_length, before.pairs)
    counts = _count([source, *(rows for rows in more if rows.are_texts())], reading)
    vectors = _read_vectors(settings.word_vectors, counts) if settings.word_vectors else {}
    tokenizer = word_tokenizer(counts, settings.vocabulary_size, vectors.__contains__)
    statistics = _write_labelled(source, reading, tokenizer, vectors, len(counts), tokens)
    if more:
        _write_unlabelled(more, reading, stage_dir / "unlabelled")
    print(f"{stage_dir.name}: {summary(statistics)}; built in {time.monotonic() - started:.0f} s", flush=True)


def summary(statistics: dict[str, Any]) -> str:
    """Summarize the statistics of the labelled rows in one line."""
    rows = sum(statistics[f"{split}_rows"] for split in SPLITS)
    found = f"{rows:,} labelled rows of {statistics['tokens'] / rows:.1f} words; {statistics['words']:,} different "
    found += f"words in the texts, {statistics['pieces']:,} words and characters with an embedding of their own"
    if "pieces_with_vector" in statistics:
        found += f", {statistics['pieces_with_vector']:,} of these from the file of vectors"
    return found


def _count(folders: Sequence[PreparedRows], reading: Reading) -> Counter[str]:
    """Count the words of the training texts in folders."""
    tokenizer, counts = load_tokenizer(reading.teacher), Counter[str]()
    for folder in folders:
        rows = folder.dataset("train")
        for batch in rows.select(range(min(len(rows), COUNTED_ROWS))).iter(BATCH_ROWS):
            texts = itertools.chain.from_iterable(_texts(batch, reading, tokenizer))
            counts.update(count_words(map(clean, texts)))
    return counts


def _texts(batch: Batch, reading: Reading, tokenizer: Any) -> list[list[str]]:
    """Return the texts of rows, of pairs both columns; `tokenizer` is the teacher's."""
    columns = TEXTS[: 1 + reading.pairs]
    if TEXTS[0] in batch:
        return [batch[name] for name in columns]
    rows = (texts_of(tokenizer, ids, len(columns)) for ids in batch["input_ids"])
    return [list(column) for column in zip(*rows, strict=True)]


def texts_of(tokenizer: Any, input_ids: Sequence[int], number: int) -> list[str]:
    """Return the texts that the tokens of a row stand for, where the texts themselves are not there.

    Words that the tokenizer does not know are left out, and a mask is the student's mask. Spaces between Chinese
    characters are those of the tokenizer.

    Args:
        tokenizer: the one that made the tokens.
        input_ids: the tokens of a row, special ones included.
        number: how many texts a row has; hint words before them are left out.
    """
    known = tokenizer.unk_token_id, tokenizer.mask_token_id
    frame = set(tokenizer.all_special_ids) - set(known)
    groups = itertools.groupby(input_ids, lambda token: token in frame)
    segments = [list(group) for is_frame, group in groups if not is_frame][-number:]
    texts = [_decoded(tokenizer, segment) for segment in segments]
    return texts + [""] * (number - len(texts))


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text = tokenizer.decode([token for token in ids if token != tokenizer.unk_token_id])
    if tokenizer.mask_token:
        text = text.replace(tokenizer.mask_token, f" {MASK} ")
    return _BETWEEN_CHINESE.sub("", text)


def _read_vectors(path: str, counts: Counter[str]) -> Vectors:
    """Return the vectors (E) of the words that are counted; a file may spell them with capitals.

    Raises:
        RunError: what `read_word_vectors` raises, or none of the words is in the file.
    """
    words, vectors_VE, notes = read_word_vectors(Path(path), WORD_VECTORS, lambda word: lower(word) in counts)
    for note in notes:
        print(f"note: {note}", flush=True)
    if not words:
        frequent = ", ".join(word for word, _ in counts.most_common(8))
        raise RunError(
            f"{WORD_VECTORS}={path} has a vector of none of the {len(counts):,} words of the texts ({frequent}): give "
            "vectors of words of this language"
        )
    vectors: Vectors = {}
    for word, vector_E in zip(words, vectors_VE, strict=True):
        vectors.setdefault(lower(word), vector_E)
    return vectors


def initial_embeddings(vocabulary: dict[str, int], vectors: Vectors) -> np.ndarray:
    """Return (V, E) the vectors of words by id, and random ones of the same spread for what has none."""
    spread = np.std(list(vectors.values()))
    width = len(next(iter(vectors.values())))
    found_VE = np.random.default_rng(0).normal(0, spread, (len(vocabulary), width)).astype(np.float32)
    for word, vector_E in vectors.items():
        if word in vocabulary:
            found_VE[vocabulary[word]] = vector_E
    return found_VE


def _write_labelled(
    source: PreparedRows, reading: Reading, tokenizer: Any, vectors: Vectors, num_words: int, tokens: Path
) -> dict[str, Any]:
    """Write the labelled rows and how they are read, and return their statistics."""
    vocabulary = tokenizer.get_vocab()
    with replaced_folder(tokens) as (work, output), quiet():
        write_encoding(output, tokenizer, reading.preprocessing, source.labels)
        write_own_words(output, reading.teacher, initial_embeddings(vocabulary, vectors) if vectors else None)
        here = replace(reading, student=PreparedRows(output).tokenizer_folder)
        made = Counter[str]()
        for split in SPLITS:
            rows = _rows(source.dataset(split), here, work / split)
            lengths = save_split(rows, split, output, reading.max_length)
            made.update(tokens=int(lengths.sum()), truncated_rows=sum(rows["truncated"]))
        statistics = {
            **source.statistics,
            "vocabulary_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            **made,
            "words": num_words,
            "pieces": len(tokenizer) - len(NO_WORDS),
            **({"pieces_with_vector": len(vectors.keys() & vocabulary.keys())} if vectors else {}),
        }
        write_data_report(output, source.data_report)
        write_statistics(output, statistics)
    return statistics


def _write_unlabelled(folders: Sequence[PreparedRows], reading: Reading, place: Path) -> None:
    """Write the training rows of folders, as those of one."""
    import datasets

    with replaced_folder(place) as (work, output), quiet():
        every = datasets.concatenate_datasets([folder.dataset("train") for folder in folders])
        made = write_splits(_rows(every, reading, work / "train"), work, output, reading.max_length, None)
        labelled = PreparedRows(reading.student.parent)
        share_held_out(labelled, output, place)
        write_statistics(output, {**labelled.statistics, **made})


def _rows(rows: Any, reading: Reading, work: Path) -> Any:
    """Return a dataset of teacher's rows as one of the student's, memory-mapped from a new folder."""
    import datasets

    work.mkdir()
    columns = {name: feature for name, feature in rows.features.items() if name not in FED}
    columns |= {
        "input_ids": datasets.List(datasets.Value("int32")),
        TEACHER_KEY: datasets.Value("uint64"),
        "truncated": datasets.Value("bool"),
    }
    if not len(rows):
        return datasets.Dataset.from_dict({name: [] for name in columns}, datasets.Features(columns))
    return rows_of_units(rows, functools.partial(_encode, reading=reading), columns, work, 0, BATCH_ROWS)


def _encode(batch: Batch, reading: Reading) -> Batch:
    teacher, student = _tokenizers(reading)
    encodings = reading.preprocessing.encode(student, *_texts(batch, reading, teacher))
    fed = [batch[name] for name in FED if name in batch]
    return {name: values for name, values in batch.items() if name not in FED} | {
        "input_ids": [encoding.input_ids for encoding in encodings],
        TEACHER_KEY: np.array([row_key(row) for row in zip(*fed, strict=True)], np.uint64),
        "truncated": [encoding.truncated for encoding in encodings],
    }


@functools.lru_cache(maxsize=1)
def _tokenizers(reading: Reading) -> tuple[Any, Any]:
    """Load both tokenizers, once per process."""
    return load_tokenizer(reading.teacher), load_tokenizer(reading.student)
