"""Which rows make step n: a pure function of (seed, step), so a run resumes anywhere from its step number alone.

Positions 0, 1, 2, ... run through the epochs without a break: position p is row `permutation(p mod rows)` of epoch
`p div rows`, and every epoch has a permutation of its own, computed for just the positions asked for. A *window* of
`bucket_steps` steps is sorted by length and cut into steps, so that the rows of a step have like lengths; the steps
of a window are then put in random order. Within a step, micro-batches follow one another in length, and micro-batch k
goes to rank k mod world size: ranks that work side by side have the same amount of work.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import xxhash

from kd_dist.texts import TEXTS


class TeacherOutputs(Protocol):
    """Logits that a teacher gave before."""

    def of(self, keys_B: np.ndarray) -> np.ndarray:
        """(B, C) logits of rows, by `row_keys`."""


@dataclass(frozen=True)
class MicroBatch:
    """Micro-batch `index` of step `step`: which rows, and the seed of everything random that happens to them."""

    step: int
    index: int
    rows: np.ndarray
    seed: int


def mix(*values: int) -> int:
    """A well-spread 63-bit number from a few integers (SplitMix64, Steele et al. 2014)."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def permuted(positions: np.ndarray, size: int, key: int, rounds: int = 6) -> np.ndarray:
    """Where a random permutation of `range(size)` sends `positions`, in time and memory of the positions alone.

    A Feistel network permutes the smallest square of a power of two that holds `size`; what lands outside walks on
    until it is inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    keys = [np.uint64(mix(key, number)) for number in range(rounds)]
    result = _feistel(positions.astype(np.uint64), half_bits, keys)
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], half_bits, keys)
    return result.astype(np.int64)


def _feistel(values: np.ndarray, half_bits: int, keys: list[np.uint64]) -> np.ndarray:
    bits, low = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> bits, values & low
    for key in keys:
        hashed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
        hashed = (hashed ^ (hashed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        left, right = right, left ^ ((hashed ^ (hashed >> np.uint64(32))) & low)
    return (left << bits) | right


class BatchPlan:
    """The rows of every step of a run.

    `lengths`: tokens of every row, an array that may be memory-mapped. `global_batch_size` rows make a step.
    """

    def __init__(
        self, lengths: np.ndarray, *, global_batch_size: int, micro_batch_size: int, bucket_steps: int, seed: int
    ) -> None:
        self._lengths = lengths
        self._global = global_batch_size
        self._micro = micro_batch_size
        self._bucket_steps = bucket_steps
        self._seed = seed
        self._window: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def epoch(self, step: int) -> float:
        """Passes over the data after `step` steps."""
        return step * self._global / len(self._lengths)

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """The micro-batches of step `step` (the first step is 1) that `rank` runs, in order."""
        rows = self.rows(step).reshape(-1, self._micro)
        return [
            MicroBatch(step, index, rows[index], mix(self._seed, step, index))
            for index in range(rank, len(rows), world_size)
        ]

    def rows(self, step: int) -> np.ndarray:
        """All rows of a step, shortest first."""
        window, place = divmod(step - 1, self._bucket_steps)
        if self._window[0] != window:
            self._window = (window, self._open_window(window))
        return self._window[1][place]

    def _open_window(self, window: int) -> np.ndarray:
        """(bucket_steps, global_batch_size) rows: like lengths in a row, rows in random order."""
        size = self._bucket_steps * self._global
        positions = np.arange(window * size, (window + 1) * size, dtype=np.int64)
        epochs, offsets = np.divmod(positions, len(self._lengths))
        rows = np.concatenate(
            [
                permuted(offsets[epochs == epoch], len(self._lengths), mix(self._seed, int(epoch)))
                for epoch in np.unique(epochs)
            ]
        )
        by_length = rows[np.argsort(self._lengths[rows], kind="stable")].reshape(self._bucket_steps, self._global)
        order = permuted(np.arange(self._bucket_steps), self._bucket_steps, mix(self._seed, window, 1))
        return by_length[order]


class TokenRows:
    """Prepared rows on disk: memory-mapped, fetched by number, padded to the longest of the rows asked for."""

    def __init__(
        self, tokens_dir: Path, split: str, pad_token_id: int, teacher_outputs: TeacherOutputs | None = None
    ) -> None:
        from datasets import load_from_disk  # slow to import, and planning batches does not need it

        rows = load_from_disk(str(tokens_dir / split))
        self._rows = rows.select_columns([name for name in rows.column_names if name not in TEXTS]).with_format("arrow")
        self._pad_token_id = pad_token_id
        self._teacher_outputs = teacher_outputs
        self.lengths: np.ndarray = np.load(tokens_dir / f"{split}_lengths.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.lengths)

    def collate(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (B, S), any other column of token rows padded with zeros (B, S), `labels`
        (B) or (B, C), and `teacher_logits` (B, C) where the teacher's outputs were given."""
        table = self._rows[rows]
        columns = {name: self._column(name, table.column(name)) for name in table.column_names}
        lengths = torch.from_numpy(self.lengths[rows].astype(np.int64))
        columns["attention_mask"] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        if self._teacher_outputs is not None:
            columns["teacher_logits"] = torch.from_numpy(self._teacher_outputs.of(row_keys(columns)))
        return columns

    def _column(self, name: str, column: Any) -> torch.Tensor:
        if name == "labels":
            labels = np.array(column.to_pylist())
            return torch.from_numpy(labels.astype(np.float32) if labels.dtype.kind == "f" else labels)
        return _padded(column, self._pad_token_id if name == "input_ids" else 0)


def row_keys(batch: dict[str, torch.Tensor]) -> np.ndarray:
    """(B) 64-bit hashes of exactly what a model is fed of each row: its token ids, and token types where there are any.

    Padding does not count. Two different rows out of 100 million have one hash with a chance of 3 in 10,000.
    """
    fed = [batch["input_ids"].numpy().astype(np.int32)]
    if "token_type_ids" in batch:
        fed.append(batch["token_type_ids"].numpy().astype(np.int32))
    lengths = batch["attention_mask"].sum(1).tolist()
    return np.array(
        [
            xxhash.xxh3_64_intdigest(b"".join(ids_BS[row, :length].tobytes() for ids_BS in fed))
            for row, length in enumerate(lengths)
        ],
        dtype=np.uint64,
    )


def _padded(column: Any, padding: int) -> torch.Tensor:
    """(B, S) from an Arrow column of lists, without a Python loop over tokens."""
    lists = column.combine_chunks()
    offsets = lists.offsets.to_numpy()
    values = lists.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    lengths = np.diff(offsets)
    padded = np.full((len(lengths), lengths.max()), padding, dtype=np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = values
    return torch.from_numpy(padded)
