"""Tokenize the rows of splits in parallel into blocks on disk. Importing this module is cheap."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_dist.data.blocks import grouped
from kd_dist.data.kept_blocks import KeptBlocks, identity_of
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import TEXTS
from kd_dist.data.preprocessing import Encoding, Preprocessing
from kd_dist.data.row_blocks import Rows
from kd_dist.data.splits import Splits
from kd_dist.data.tokenizer_folders import tokenizer_identity
from kd_dist.data.tokenizers import worker_tokenizer
from kd_dist.data.unknown_words import Counts, count_unknown_words, total
from kd_dist.data.workers import in_order

FORMAT_VERSION = 1  # raise it when the same texts and settings would give other tokens


@dataclass(frozen=True)
class Recipe:
    """How texts and labels become numbers."""

    tokenizer_path: str
    preprocessing: Preprocessing
    labels: Labels

    def features(self) -> Any:
        """Return the columns of the rows."""
        import datasets

        label = {
            "single_label": datasets.Value("int64"),
            "multi_label": datasets.List(datasets.Value("float32")),
            "regression": datasets.Value("float32"),
        }
        columns = {"text": datasets.Value("string"), "labels": label[self.labels.task]}
        if self.preprocessing.pairs:
            columns["text_pair"] = datasets.Value("string")
        columns["input_ids"] = datasets.List(datasets.Value("int32"))
        if self.preprocessing.has_token_types(worker_tokenizer(self.tokenizer_path)):
            columns["token_type_ids"] = datasets.List(datasets.Value("int8"))
        return datasets.Features(columns)

    def encode(self, texts: list[list[str]], labels: list[tuple[str, ...]]) -> Any:
        """Return the table of labels and tokens of clean texts, and which of them were truncated.

        Args:
            texts: of the rows, or the first and the second texts of pairs.
            labels: of the rows.
        """
        import pyarrow as pa

        tokenizer, schema = worker_tokenizer(self.tokenizer_path), self.features().arrow_schema
        columns: dict[str, list[Any]] = {name: [] for name in Encoding._fields}
        for group in grouped(zip(*texts, strict=True), _size_of):
            for encoding in self.preprocessing.encode_clean(tokenizer, *map(list, zip(*group, strict=True))):
                for name, value in zip(Encoding._fields, encoding, strict=True):
                    columns[name].append(value)
        columns["labels"] = [self.labels.encode(row) for row in labels]
        arrays = {name: pa.array(columns[name], schema.field(name).type) for name in columns if name in schema.names}
        return pa.table({**arrays, "truncated": pa.array(columns["truncated"], pa.bool_())})

    def identity(self) -> str:
        """Return a hash of all that this depends on."""
        return identity_of(
            FORMAT_VERSION, tokenizer_identity(self.tokenizer_path), asdict(self.preprocessing), asdict(self.labels)
        )


def _size_of(texts: tuple[str, ...]) -> int:
    return sum(map(len, texts))


class _Task(NamedTuple):
    """The rows of a block of rows that become a block of tokens."""

    rows: KeptBlocks
    tokens: KeptBlocks
    number: int
    places: np.ndarray
    labels: list[tuple[str, ...]]


@dataclass(frozen=True)
class RowTokens:
    """The rows of a split and, for each block that some of them are in, a block of their tokens."""

    rows: Rows
    blocks: KeptBlocks
    recipe: Recipe

    def tables(self) -> Iterator[Any]:
        """Yield the rows with their tokens, block by block; `truncated` says which texts were too long."""
        for block, numbers in self.rows.by_block():
            table = self.blocks.read(block)
            texts = _texts(self.rows.blocks, block, self.rows.places(block, numbers))
            for name in texts.column_names:
                table = table.append_column(name, texts.column(name))
            yield table

    def word_counts(self) -> Counts:
        """Return how many words there are, and how many of them the tokenizer does not know."""
        return total(self.blocks.facts(block) for block, _ in self.rows.by_block())


def _texts(blocks: KeptBlocks, number: int, places: np.ndarray) -> Any:
    table = blocks.read(number)
    return table.select([name for name in TEXTS if name in table.column_names]).take(places)


def encode_splits(splits: Splits, folder: Path, recipe: Recipe, num_workers: int) -> dict[str, RowTokens]:
    """Tokenize the rows of all splits, apart from what an earlier try has left.

    Args:
        splits: the rows.
        folder: of the blocks.
        recipe: how they become numbers.
        num_workers: processes; 0: one per available core. The tokens do not depend on it.
    """
    found = {split: RowTokens(rows, KeptBlocks(folder, f"{split}_tokens"), recipe) for split, rows in splits.items()}
    for _ in in_order(_Writer(recipe, recipe.identity()), _tasks(found.values()), num_workers):
        pass
    return found


def _tasks(splits: Iterable[RowTokens]) -> Iterator[_Task]:
    for split in splits:
        rows = split.rows
        for block, numbers in rows.by_block():
            labels = [rows.label_sets[number] for number in rows.columns["label_set"][numbers].tolist()]
            yield _Task(rows.blocks, split.blocks, block, rows.places(block, numbers), labels)


@dataclass(frozen=True)
class _Writer:
    """Write blocks of tokens, in a worker."""

    recipe: Recipe
    identity: str  # of the recipe

    def __call__(self, task: _Task) -> None:
        rows = task.rows.facts(task.number)["identity"]
        identity = identity_of(self.identity, rows, task.places.tolist(), task.labels)
        if task.tokens.has(task.number, identity):
            return
        texts = _texts(task.rows, task.number, task.places)
        table = self.recipe.encode([column.to_pylist() for column in texts.columns], task.labels)
        words = count_unknown_words(worker_tokenizer(self.recipe.tokenizer_path), table.column("input_ids"))
        task.tokens.write(task.number, table, identity, **words)
