"""The perturbed stage: change tokens of labelled rows at random, to make rows whose labels only a teacher knows.

Few labelled rows are soon learnt by heart, and then a teacher says little that the labels did not. A row with tokens
masked or left out, or made of the front of one row and the end of another, is mostly no sentence, but the teacher has
an opinion of it, and the student learns from that how the teacher reads words.

Source: Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks", section 3.3, which
masks words, replaces them by others of the same part of speech, and samples n-grams. Deviations: a copy is perturbed in
one way alone; tokens instead of words, so that every language and tokenizer will do; fronts and ends of two rows
instead of n-grams; words are replaced where `perturb.replace_words` asks for it, in Chinese texts.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.augmentation.same_kind import ReplacedCopies
from kd_dist.config.sections.augmentation import Perturb
from kd_dist.config.stages import PerturbedStage
from kd_dist.data.arrow_rows import quiet, write_splits
from kd_dist.data.permutation import mix, permuted
from kd_dist.data.prepared_rows import PreparedRows, write_statistics
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.data.unlabelled import Recipe
from kd_dist.files import replaced_folder

BLOCK = 4096  # rows that are in memory together

MASKED, LEFT_OUT = 0.15, 0.2  # the probability of each token, of a row that is perturbed in this way

Row = dict[str, list[int]]
"""The columns of a row, a number for each token; `input_ids` is one of them."""


def run(stage: PerturbedStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/tokens, which training reads. It replaces what an earlier run wrote.

    Raises:
        RunError: what `perturb` raises.
    """
    started = time.monotonic()
    source = PreparedRows(Path(stage.data.tokens))
    statistics = perturb(source, stage.perturb, stage_dir / "tokens")
    print(
        f"{stage_dir.name}: {statistics['train_rows']:,} perturbed copies of {source.num_rows('train'):,} rows; built "
        f"in {time.monotonic() - started:.0f} s",
        flush=True,
    )


def perturb(source: PreparedRows, settings: Perturb, output_dir: Path) -> dict[str, Any]:
    """Write perturbed training rows to `output_dir`, which is replaced (see `PreparedRows`), and return the statistics.

    The rows have no labels. Validation and test rows are those of `source`. The result depends on rows and settings
    alone, and where words are replaced on what jieba takes for words.

    Raises:
        RunError: what `Recipe.of` and `ReplacedCopies` raise.
    """
    import datasets
    import pyarrow as pa

    rows, recipe = source.dataset("train"), Recipe.of(str(source.folder), None)
    tokenizer = load_tokenizer(source.tokenizer_folder)
    replacing = ReplacedCopies(source, settings.replace_words) if settings.replace_words else None
    columns = [name for name in ("input_ids", "token_type_ids") if name in rows.column_names]
    fields = [rows.features.arrow_schema.field(name) for name in columns]
    schema = pa.schema([*fields, pa.field("truncated", pa.bool_())])
    made = Perturbations(
        rows.select_columns(columns), tokenizer, recipe.preprocessing.max_length, settings.seed, replacing
    )
    with replaced_folder(output_dir) as (work, output), quiet():
        with pa.OSFile(str(work / "rows.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for block in made.blocks(min(settings.copies * len(rows), settings.max_rows)):
                writer.write_table(pa.Table.from_pylist([{**row, "truncated": False} for row in block], schema=schema))
        recipe.share(tokenizer, output, output_dir)
        found = datasets.Dataset.from_file(str(work / "rows.arrow"))
        made_rows = write_splits(found, work, output, recipe.preprocessing.max_length, None)
        statistics = {**recipe.facts(tokenizer), **made_rows}
        write_statistics(output, statistics)
    return statistics


class Perturbations:
    """Perturbed copies of rows.

    Args:
        rows: A dataset with the columns of tokens alone.
        tokenizer: The one that made them.
        max_length: Tokens of a copy, at most.
        seed: Of every choice.
        replacing: Makes a copy whose words are replaced, of the number of a row, or None where it cannot; None: no copy
            is made in this way.
    """

    def __init__(
        self,
        rows: Any,
        tokenizer: Any,
        max_length: int,
        seed: int,
        replacing: Callable[[int, random.Random], Row | None] | None = None,
    ) -> None:
        self._rows, self._max_length, self._seed, self._replacing = rows, max_length, seed, replacing
        self._mask = tokenizer.mask_token_id
        self._frame = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id, tokenizer.mask_token_id}

    def blocks(self, number: int) -> Iterator[list[Row]]:
        """Yield as many copies as asked for, in blocks: one of each row in a random order, then another of each."""
        for start in range(0, number, BLOCK):
            wanted = np.arange(start, min(start + BLOCK, number))
            size = len(self._rows)
            order = permuted(wanted % size, size, self._seed)
            others = np.array([mix(self._seed, int(n)) % size for n in wanted])
            numbers = zip(wanted.tolist(), order.tolist(), strict=True)
            pairs = zip(numbers, self._at(order), self._at(others), strict=True)
            yield [self._copy(row, other, at, random.Random(mix(self._seed, n, 1))) for (n, at), row, other in pairs]

    def _at(self, numbers: np.ndarray) -> list[Row]:
        columns = self._rows[numbers]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _copy(self, row: Row, other: Row, at: int, chance: random.Random) -> Row:
        """Return row number `at` with its texts perturbed; the special tokens around them stay where they are."""
        ways = [spliced, shortened] if self._mask is None else [spliced, shortened, self._masked]
        takes_words = self._replacing is not None and not chance.randrange(len(ways) + 1)
        if takes_words and self._replacing and (copy := self._replacing(at, chance)) is not None:
            return copy
        way = chance.choice(ways)
        replacements, pieces = iter(self._texts(other)), []
        for is_text, piece in self._pieces(row):
            pieces.append(way(piece, next(replacements, piece), chance) if is_text else piece)
        return joined(pieces, self._max_length)

    def _texts(self, row: Row) -> list[Row]:
        return [piece for is_text, piece in self._pieces(row) if is_text]

    def _pieces(self, row: Row) -> Iterator[tuple[bool, Row]]:
        """Yield the texts of a row and what stands around them, in order, and whether each is a text."""
        start = 0
        for is_text, group in groupby(row["input_ids"], lambda token: token not in self._frame):
            end = start + len(list(group))
            yield is_text, cut(row, start, end)
            start = end

    def _masked(self, text: Row, other: Row, chance: random.Random) -> Row:
        return text | {"input_ids": [self._mask if chance.random() < MASKED else t for t in text["input_ids"]]}


def spliced(text: Row, other: Row, chance: random.Random) -> Row:
    """Return the front of a text and the end of the other, cut at the same share of their lengths."""
    share, size, more = chance.random(), len(text["input_ids"]), len(other["input_ids"])
    front, end = cut(text, 0, max(1, int(size * share))), cut(other, int(more * share), more)
    types = {name: values[:1] * more for name, values in text.items()}  # the end belongs to this text now
    ends = types | {"input_ids": end["input_ids"]}
    return {name: values + ends[name][: len(end["input_ids"])] for name, values in front.items()}


def shortened(text: Row, other: Row, chance: random.Random) -> Row:
    """Return the text without some of its tokens, but with one at least."""
    kept = [n for n in range(len(text["input_ids"])) if chance.random() >= LEFT_OUT] or [0]
    return {name: [values[n] for n in kept] for name, values in text.items()}


def cut(row: Row, start: int, end: int) -> Row:
    """Return some tokens of a row."""
    return {name: values[start:end] for name, values in row.items()}


def joined(pieces: Sequence[Row], max_length: int) -> Row:
    """Return the pieces as one row, the longest of them shortened until the row is no longer than `max_length`."""
    excess = sum(len(piece["input_ids"]) for piece in pieces) - max_length
    pieces = list(pieces)
    while excess > 0:
        longest = max(range(len(pieces)), key=lambda n: len(pieces[n]["input_ids"]))
        pieces[longest] = cut(pieces[longest], 0, len(pieces[longest]["input_ids"]) - 1)
        excess -= 1
    return {name: [number for piece in pieces for number in piece[name]] for name in pieces[0]}
