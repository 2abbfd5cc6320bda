"""How many rows the texts in files give, and how long they are: counted quickly, and measured on a sample.

Duplicates, rows that cannot be used and leaks between splits are only found when rows are prepared; they count here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from kd_dist.config.sections.data import MAX_HELD_OUT_ROWS, CorpusData, LabelledData
from kd_dist.data.blocks import TextStatistics, blocks
from kd_dist.data.cleaning import clean, split_sentences
from kd_dist.data.counting import count_records, evenly
from kd_dist.data.discovery import find_files, labelled_files
from kd_dist.data.prepared_rows import SPLITS
from kd_dist.data.readers import SET_TEXT_FIELD, Texts, read_texts
from kd_dist.data.texts import TextReader, parse_text_columns
from kd_dist.data.tokenizing import row_lengths
from kd_dist.planning.lengths import SPECIAL_TOKENS, token_counter

SAMPLE = 1000  # rows whose tokens are counted

SAMPLE_FILES = 8

SAMPLE_LINES = 4000  # of a corpus


@dataclass(frozen=True)
class Rows:
    """The rows that a stage makes.

    Attributes:
        train: How many there are to train on.
        validation: How many are held out for validation.
        test: How many are held out for the test.
        lengths: Tokens of a sample of the training rows, the shortest first.
        characters: Of all texts that are tokenized for them; 0 where none are.
    """

    train: int
    validation: int = 0
    test: int = 0
    lengths: tuple[int, ...] = ()
    characters: int = 0

    def total(self) -> int:
        """Return the rows of all splits."""
        return self.train + self.validation + self.test

    def mean_length(self) -> float:
        """Return the mean tokens of a row."""
        return sum(self.lengths) / max(len(self.lengths), 1)


def joined(parts: Sequence[Rows]) -> Rows:
    """Return rows together to train on, with the rows that the first of them hold out."""
    if len(parts) == 1:
        return parts[0]
    total = sum(part.train for part in parts)
    lengths = (length for part in parts for length in spread(part.lengths, round(SAMPLE * part.train / max(total, 1))))
    return replace(parts[0], train=total, lengths=tuple(sorted(lengths)))


def spread(lengths: Sequence[int], number: int) -> list[int]:
    """Return so many of sorted lengths, at equal distances; some several times where there are fewer."""
    return [lengths[place * len(lengths) // number] for place in range(number)] if lengths else []


def labelled_rows(data: LabelledData, tokenizer: str | None) -> Rows:
    """Count labelled files and divide their rows into splits, as the settings say.

    Raises:
        CorpusError: A file cannot be read.
    """
    numbers = {split: _num_labelled(data, patterns) for split in SPLITS if (patterns := getattr(data, split))}
    texts = list(islice(_labelled_texts(data), SAMPLE))
    return sampled(divided(data, numbers), texts, tokenizer, data.max_length)


def divided(data: LabelledData, numbers: dict[str, int]) -> Rows:
    """Return the rows of every split, given those of the splits that have files."""
    found, total = dict(numbers), numbers["train"]
    if "validation" not in numbers:
        found["validation"] = round(data.validation_fraction * total)
        found["test"] = numbers.get("test", round(data.test_fraction * total))
        found["train"] -= found["validation"] + (0 if "test" in numbers else found["test"])
    limit = data.max_rows or max(found.values())
    train, validation, test = (min(found.get(split, 0), limit) for split in SPLITS)
    return Rows(train, validation, test)


def plain_rows(files: Sequence[Path], columns: Sequence[str], tokenizer: str | None, max_length: int) -> Rows:
    """Count files of texts without labels, all of them to train on.

    Raises:
        CorpusError: A file cannot be read.
    """
    texts = (row for file in evenly(files, SAMPLE_FILES) for row in _head(read_texts(file, columns, SET_TEXT_FIELD)))
    return sampled(Rows(count_records(files, columns[0])), list(texts), tokenizer, max_length)


def corpus_rows(data: CorpusData, tokenizer: str | None) -> Rows:
    """Pack a sample of a corpus as preparation does, and scale it to all lines.

    Raises:
        CorpusError: A file cannot be read.
    """
    files, read = find_files(data.corpus), TextStatistics()
    sample = list(blocks(evenly(files, SAMPLE_FILES), data.text_field, read, SAMPLE_LINES))
    lines = min(count_records(files, data.text_field), data.max_lines or 2**62)
    per_line = lines / max(read.lines_read, 1)
    lengths = sorted(_packed(sample, data, tokenizer))
    total = round(len(lengths) * per_line)
    held_out = min(round(total * data.validation_fraction), MAX_HELD_OUT_ROWS)
    sizes = tuple(spread(lengths, SAMPLE))
    return Rows(total - held_out, held_out, lengths=sizes, characters=round(read.characters * per_line))


def _packed(sample: Iterable[list[str]], data: CorpusData, tokenizer: str | None) -> Iterable[int]:
    """Yield the tokens of every row that blocks of lines give."""
    count, budget = token_counter(tokenizer), data.max_length - SPECIAL_TOKENS
    for lines in sample:
        sentences = [(sentence,) for line in lines for sentence in (split_sentences(line) if data.pack else [line])]
        tokens = [number - SPECIAL_TOKENS for number in count(sentences)]
        rows = row_lengths(tokens, budget) if data.pack else (min(number, budget) for number in tokens)
        yield from (number + SPECIAL_TOKENS for number in rows)


def sampled(rows: Rows, texts: Sequence[Texts], tokenizer: str | None, max_length: int) -> Rows:
    """Return rows with the lengths and characters that a sample of their texts says."""
    filled = [tuple(map(clean, row)) for row in texts if any(row)]
    lengths = [min(number, max_length) for number in token_counter(tokenizer)(filled)]
    characters = sum(len(text) for row in filled for text in row) / max(len(filled), 1)
    share = len(filled) / max(len(texts), 1)  # blank lines are no rows
    return Rows(
        round(rows.train * share), rows.validation, rows.test, tuple(sorted(lengths)), round(characters * rows.total())
    )


def _num_labelled(data: LabelledData, patterns: Sequence[str]) -> int:
    files = labelled_files(patterns)
    tables = [file for file, label in files if label is None]
    return len(files) - len(tables) + count_records(tables, parse_text_columns(data.columns).names[0])


def _labelled_texts(data: LabelledData) -> Iterable[Texts]:
    reader = TextReader(parse_text_columns(data.columns), data.header, data.separator, note=lambda _: None)
    files = labelled_files(data.train)
    are_documents = {file: label is not None for file, label in files}
    number = SAMPLE if any(are_documents.values()) else SAMPLE_FILES
    for file in evenly(list(are_documents), number):
        yield from _head(reader.read(file, are_documents[file]))


def _head(texts: Iterable[Texts]) -> Iterable[Texts]:
    """Return the first texts of a file."""
    return islice(texts, SAMPLE)
