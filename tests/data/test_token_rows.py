"""Rows are collated with their padding, labels and stored logits, and known by what a model is fed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from kd_dist.data.prepared_rows import open_lengths
from kd_dist.data.token_rows import TokenRows, batches_of_tokens, row_keys

IDS = [[2, 5, 6, 3], [2, 3], [2, 7, 3]]


def write_rows(folder: Path, **columns: list[Any]) -> Path:
    Dataset.from_dict({"input_ids": IDS, "text": ["a", "b", "c"], **columns}).save_to_disk(str(folder / "train"))
    open_lengths(folder, "train", len(IDS), 48)[:] = [len(ids) for ids in IDS]
    return folder


def test_rows_are_padded_to_the_longest_of_them(tmp_path: Path):
    rows = TokenRows(write_rows(tmp_path, token_type_ids=[[0, 0, 1, 1], [0, 1], [0, 0, 1]]), "train", pad_token_id=9)
    batch = rows.collate(np.array([2, 1]))
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask"}
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 3, 9]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [([1, 0, 2], torch.int64), ([0.5, 1.5, 2.5], torch.float32), ([[1.0, 0.0]] * 3, torch.float32)],
)
def test_labels_keep_their_kind(labels: list[Any], dtype: torch.dtype, tmp_path: Path):
    batch = TokenRows(write_rows(tmp_path, labels=labels), "train", 0).collate(np.array([0, 2]))
    assert batch["labels"].dtype == dtype
    assert batch["labels"].tolist() == [labels[0], labels[2]]


def test_stored_logits_come_by_what_a_row_says(tmp_path: Path):
    class Stored:
        def of(self, keys_B: np.ndarray) -> np.ndarray:
            return np.array([[logits[int(key)]] for key in keys_B], dtype=np.float32)

    plain = TokenRows(write_rows(tmp_path), "train", 0)
    logits = {int(key): number for number, key in enumerate(row_keys(plain.collate(np.arange(3))))}
    assert len(logits) == 3
    batch = TokenRows(tmp_path, "train", 0, Stored()).collate(np.array([1, 2, 0]))
    assert batch["teacher_logits"].tolist() == [[1], [2], [0]]  # other rows, other padding, the same keys


@pytest.mark.parametrize(
    ("task", "labels", "missing"),
    [
        ("single_label", [1, 0, 2], -100),
        ("multi_label", [[1.0, 0.0, 1.0]] * 3, [float("nan")] * 3),
        ("regression", [0.5, 1.5, 2.5], float("nan")),
    ],
)
def test_rows_without_labels_follow_those_with_labels(task: str, labels: list[Any], missing: Any, tmp_path: Path):
    names = {} if task == "regression" else {"a": 0, "b": 1, "c": 2}
    labelled = write_rows(tmp_path / "labelled", labels=labels)
    (labelled / "statistics.json").write_text(json.dumps({"task": task}), encoding="utf-8")
    (labelled / "label2id.json").write_text(json.dumps(names), encoding="utf-8")
    rows = TokenRows(labelled, "train", 0, unlabelled=[write_rows(tmp_path / "unlabelled")])
    assert len(rows) == 6
    assert rows.lengths.tolist() == [4, 2, 3, 4, 2, 3]
    assert rows.named(np.array([4, 2, 0])) == f"0, 2 of {labelled / 'train'}; 1 of {tmp_path / 'unlabelled' / 'train'}"
    batch = rows.collate(np.array([4, 0]))
    assert batch["input_ids"].tolist() == [[2, 3, 0, 0], [2, 5, 6, 3]]
    torch.testing.assert_close(batch["labels"], torch.tensor([missing, labels[0]]), equal_nan=True)


def test_a_batch_holds_no_more_tokens_than_it_may_with_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 130, size=300).astype(np.uint8)
    batches = list(batches_of_tokens(lengths, 100))
    assert sorted(np.concatenate(batches)) == list(range(300))
    assert all(len(rows) * lengths[rows].max() <= 100 or len(rows) == 1 for rows in batches)
    in_order = lengths[np.concatenate(batches)].tolist()
    assert in_order == sorted(in_order, reverse=True)
