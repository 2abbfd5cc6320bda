"""Compute the teacher's logits for the rows of a stage, block by block.

Shapes: B batch, N rows of a block, C classes.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch

from kd_dist.config.stages import TeacherOutputsStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows, batches_of_tokens, row_keys
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.models.device import own_device
from kd_dist.models.teacher import Teacher, Wanted
from kd_dist.runs.blocks import Tally

T = TypeVar("T")

SPLITS = ("train", "validation")

BLOCK_ROWS, BLOCK_BYTES = 4_096, 1 << 24  # at most: seconds of work on a GPU, and of thousands of classes fewer rows

FEWEST_ROWS, FOR_ALL_SHARDS = 64, 256  # of few rows so many blocks, that shards get about as much work each

BATCH_TOKENS = 8_192  # of a forward pass, padding included


@dataclass(frozen=True)
class RowBlocks:
    """The rows of a stage, cut into blocks of one split each.

    Args:
        splits: The training rows, those without labels among them, and the validation rows.
        num_rows: Rows of a block, at most.
    """

    splits: Sequence[TokenRows]
    num_rows: int

    @classmethod
    def of(cls, stage: TeacherOutputsStage) -> Self:
        """Open the rows of a stage."""
        rows = PreparedRows(Path(stage.data.tokens))
        pad_token_id = load_tokenizer(rows.tokenizer_folder).pad_token_id
        more = {"train": list(map(Path, stage.data.unlabelled_tokens))}
        splits = [TokenRows(rows.folder, split, pad_token_id, unlabelled=more.get(split, ())) for split in SPLITS]
        for_all_shards = max(FEWEST_ROWS, sum(map(len, splits)) // FOR_ALL_SHARDS)
        num_rows = min(BLOCK_ROWS, for_all_shards, BLOCK_BYTES // (4 * max(1, len(rows.label2id))))
        return cls(splits, max(1, num_rows))

    def __len__(self) -> int:
        return sum(map(self._num_blocks, self.splits))

    def rows(self, block: int) -> tuple[TokenRows, np.ndarray]:
        """Return the split of a block, and (N) the numbers of its rows there."""
        for split in self.splits:
            if block < self._num_blocks(split):
                break
            block -= self._num_blocks(split)
        return split, np.arange(block * self.num_rows, min((block + 1) * self.num_rows, len(split)))

    def _num_blocks(self, split: TokenRows) -> int:
        return -(-len(split) // self.num_rows)


class _Batch(NamedTuple):
    """Rows of a block.

    Attributes:
        block: Number of the block.
        places_B: Where in the block the rows are.
        keys_B: Their `row_keys`.
        tensors: What the teacher is fed.
    """

    block: int
    places_B: np.ndarray
    keys_B: np.ndarray
    tensors: dict[str, torch.Tensor]


def make_blocks(stage: TeacherOutputsStage, rows: RowBlocks, blocks: Iterable[int]) -> Iterator[tuple[Any, Tally]]:
    """Yield an Arrow table of `key` and `logits`, in the order of the rows, and the number of rows, for each block.

    The next batch is prepared in a thread while the teacher runs. Logits do not depend on the other rows of a batch
    beyond rounding.

    Raises:
        UserError: The teacher's labels are not those of the data.
    """
    device = own_device()
    teacher = Teacher(
        stage.teacher.path,
        Wanted(logits=True),
        precision=stage.engine.precision,
        device=device,
        label2id=PreparedRows(Path(stage.data.tokens)).label2id,
    )
    for _, batches in itertools.groupby(_ahead(_batches(rows, blocks)), key=lambda batch: batch.block):
        found = [(batch.places_B, batch.keys_B, _logits(teacher, batch, device)) for batch in batches]
        places_N, keys_N, logits_NC = map(np.concatenate, zip(*found, strict=True))
        order = np.argsort(places_N)
        yield table_of(keys_N[order], logits_NC[order]), Tally(rows=len(order))


def _batches(rows: RowBlocks, blocks: Iterable[int]) -> Iterator[_Batch]:
    for block in blocks:
        split, numbers_N = rows.rows(block)
        for places_B in batches_of_tokens(split.lengths[numbers_N], BATCH_TOKENS):
            tensors = split.collate(numbers_N[places_B])
            keys_B = row_keys(tensors)
            if torch.cuda.is_available():  # for an asynchronous copy to the GPU
                tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
            yield _Batch(block, places_B, keys_B, tensors)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items, each of which a thread makes while the one before it is in use."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def _logits(teacher: Teacher, batch: _Batch, device: torch.device) -> np.ndarray:
    logits_BC = teacher({name: tensor.to(device, non_blocking=True) for name, tensor in batch.tensors.items()}).logits
    assert logits_BC is not None
    return logits_BC.cpu().numpy()


def table_of(keys_N: np.ndarray, logits_NC: np.ndarray) -> Any:
    """Return keys and logits as an Arrow table."""
    import pyarrow as pa

    lists = pa.FixedSizeListArray.from_arrays(pa.array(logits_NC.reshape(-1)), logits_NC.shape[1])
    return pa.table({"key": pa.array(keys_N), "logits": lists})


def arrays_of(table: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys (N) and logits (N, C) of an Arrow table."""
    logits = table.column("logits").combine_chunks()
    return table.column("key").to_numpy(), logits.flatten().to_numpy().reshape(len(table), -1)
