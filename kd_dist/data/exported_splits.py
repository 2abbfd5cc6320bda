"""Write splits as files for people and other programs."""

import csv
from collections.abc import Mapping
from pathlib import Path

from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import LABEL_IDS
from kd_dist.data.row_blocks import Rows
from kd_dist.files import atomic_path, write_json

FILES = {"train": "train.csv", "validation": "valid.csv", "test": "test.csv"}


def write_texts(rows: Rows, file: Path) -> None:
    """Write one text per line, two lines for a pair."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{text}\n" for row in rows for text in row.key if text is not None)


def write_splits(splits: Mapping[str, Rows], labels: Labels, label_separator: str, folder: Path) -> None:
    """Write train.csv, valid.csv and test.csv with a header that `data.columns` knows, and label2id.json.

    Args:
        splits: the rows by split; a split without rows is a file with a header alone.
        labels: their labels.
        label_separator: joins the labels of a row that has several.
        folder: of the files.
    """
    for split, rows in splits.items():
        with (
            atomic_path(folder / FILES[split]) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as stream,
        ):
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["label", *rows.text_roles()])
            writer.writerows([label_separator.join(row.labels), *filter(None, row.key)] for row in rows)
    write_json(folder / LABEL_IDS, labels.ids)
