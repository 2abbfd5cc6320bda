"""A folder of prepared rows: what it holds and how it is shared."""

import os
import shutil
from pathlib import Path

import numpy as np

from kd_dist.files import read_json

HELD_OUT = ("validation", "test")

SPLITS = ("train", *HELD_OUT)

TEXTS = ("text", "text_pair")  # columns for people, which no model reads


def share_held_out(tokens: Path, output: Path, output_dir: Path) -> None:
    """Put into `output` everything of prepared rows but the train rows and the reports.

    Copies of what is small, and links to the validation and test rows, from where `output` will be at last.
    """
    shutil.copytree(tokens / "tokenizer", output / "tokenizer")
    for name in ("preprocessing.json", "label2id.json"):
        shutil.copy(tokens / name, output / name)
    for split in HELD_OUT:
        for name in (split, f"{split}_lengths.npy"):
            (output / name).symlink_to(os.path.relpath((tokens / name).resolve(), output_dir.resolve()))


def held_out_texts(tokens: Path) -> set[tuple[str, ...]]:
    """The texts of all validation and test rows, of a pair both."""
    from datasets import load_from_disk

    found: set[tuple[str, ...]] = set()
    for split in HELD_OUT:
        rows = load_from_disk(str(tokens / split))
        found.update(zip(*(rows[name][:] for name in TEXTS if name in rows.column_names), strict=True))
    return found


def label_shares(tokens: Path) -> np.ndarray:
    """(C) the share of the training rows that carry each label, as if half a row more did and half a row did not."""
    rows, counts_C = _label_counts(tokens)
    return (counts_C + 0.5) / (rows + 1)


def balanced_class_weights(tokens: Path) -> np.ndarray:
    """(C) weights in inverse proportion to the rows of a class; their mean over the rows is 1."""
    rows, counts_C = _label_counts(tokens)
    return rows / (len(counts_C) * np.maximum(counts_C, 1))


def _label_counts(tokens: Path) -> tuple[int, np.ndarray]:
    """Training rows, and (C) how many of them carry each label."""
    report = read_json(tokens / "data_report.json")["train"]
    label2id = read_json(tokens / "label2id.json")
    return report["rows"], np.array([report["labels"][name] for name in sorted(label2id, key=label2id.__getitem__)])
