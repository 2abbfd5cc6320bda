"""Collate prepared rows to batches of tensors.

Shapes: B batch, S sequence, C classes.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from kd_dist.data.prepared_rows import TEACHER_KEY, TEXTS, PreparedRows

FED = ("input_ids", "token_type_ids")
"""The columns of what a model is fed for a row."""


class TeacherOutputs(Protocol):
    """Logits of a teacher that were computed before."""

    def of(self, keys_B: np.ndarray) -> np.ndarray:
        """Return the logits (B, C) of rows, by their `row_keys` (B)."""


class TokenRows:
    """Prepared rows on disk, memory-mapped, and collated by their numbers.

    Args:
        tokens_dir: The folder of the rows.
        split: Which of its splits.
        pad_token_id: What token ids are padded with.
        teacher_outputs: The teacher's logits for all rows, if they were stored.
        unlabelled: Folders whose training rows, without labels, follow those of the split.
    """

    def __init__(
        self,
        tokens_dir: Path,
        split: str,
        pad_token_id: int,
        teacher_outputs: TeacherOutputs | None = None,
        unlabelled: Sequence[Path] = (),
    ) -> None:
        prepared = PreparedRows(tokens_dir)
        rows, lengths = prepared.dataset(split), prepared.lengths(split)
        self._folders, self._starts = [prepared.split_folder(split)], np.zeros(1, dtype=np.int64)
        self._missing_label: Any = None
        if unlabelled:
            from datasets import concatenate_datasets  # slow to import

            more, self._missing_label = [PreparedRows(folder) for folder in unlabelled], prepared.labels.missing()
            rows = concatenate_datasets([rows, *(one.dataset("train") for one in more)])
            parts = [lengths, *(one.lengths("train") for one in more)]
            lengths, self._starts = np.concatenate(parts), np.cumsum([0, *map(len, parts[:-1])])
            self._folders += [one.split_folder("train") for one in more]
        self._rows = rows.select_columns([name for name in rows.column_names if name not in TEXTS]).with_format("arrow")
        self._pad_token_id = pad_token_id
        self._teacher_outputs = teacher_outputs
        self.lengths: np.ndarray = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def named(self, rows: np.ndarray) -> str:
        """Name rows by their numbers in the folder that they are in."""
        rows = np.sort(rows)
        places = np.searchsorted(self._starts, rows, side="right") - 1
        numbers = {place: rows[places == place] - self._starts[place] for place in np.unique(places)}
        return "; ".join(f"{', '.join(map(str, found))} of {self._folders[place]}" for place, found in numbers.items())

    def collate(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the rows with these numbers as tensors, padded to the longest of them.

        Returns:
            `input_ids`, `attention_mask` and any other column of tokens, padded with zeros, (B, S); `labels` (B) or
            (B, C), `Labels.missing` for a row without one; and `teacher_logits` (B, C) if outputs were given.
        """
        table = self._rows[rows]
        names = [name for name in table.column_names if name != TEACHER_KEY]
        columns = {name: self._column(name, table.column(name)) for name in names}
        lengths = torch.from_numpy(self.lengths[rows].astype(np.int64))
        columns["attention_mask"] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        if self._teacher_outputs is not None:
            own_words = TEACHER_KEY in table.column_names
            keys_B = table.column(TEACHER_KEY).to_numpy() if own_words else row_keys(columns)
            columns["teacher_logits"] = torch.from_numpy(self._teacher_outputs.of(keys_B))
        return columns

    def _column(self, name: str, column: Any) -> torch.Tensor:
        if name == "labels":
            labels = np.array([self._missing_label if label is None else label for label in column.to_pylist()])
            return torch.from_numpy(labels.astype(np.float32) if labels.dtype.kind == "f" else labels)
        return _padded(column, self._pad_token_id if name == "input_ids" else 0)


def batches_of_tokens(lengths: npt.ArrayLike, most: int) -> Iterator[np.ndarray]:
    """Yield places of rows in batches of similar lengths, the longest first.

    Args:
        lengths: Tokens of each row.
        most: Tokens of a batch, padding included; a longer row is a batch of its own.
    """
    lengths_N = np.asarray(lengths, np.int64)
    order, start = np.argsort(-lengths_N, kind="stable"), 0
    while start < len(order):
        end = start + max(1, most // int(lengths_N[order[start]]))
        yield order[start:end]
        start = end


def row_keys(batch: dict[str, torch.Tensor]) -> np.ndarray:
    """Return (B) 64-bit hashes of what a model is fed for each row: token ids and, if there are any, token types.

    Padding does not count. The probability that two of 100 million different rows have the same hash is 3 in 10,000.
    """
    fed = [batch[name].numpy() for name in FED if name in batch]
    lengths = batch["attention_mask"].sum(1).tolist()
    keys = [row_key(ids_BS[row, :length] for ids_BS in fed) for row, length in enumerate(lengths)]
    return np.array(keys, dtype=np.uint64)


def row_key(fed: Iterable[npt.ArrayLike]) -> int:
    """Return the key of a row: of its `input_ids` and, if there are any, its `token_type_ids`, without padding."""
    return xxhash.xxh3_64_intdigest(b"".join(np.asarray(ids, np.int32).tobytes() for ids in fed))


def _padded(column: Any, padding: int) -> torch.Tensor:
    """Pad an Arrow column of lists to (B, S), without a Python loop over tokens."""
    lists = column.combine_chunks()
    offsets = lists.offsets.to_numpy()
    values = lists.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    lengths = np.diff(offsets)
    padded = np.full((len(lengths), lengths.max()), padding, dtype=np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = values
    return torch.from_numpy(padded)
