"""Read labelled texts to be scored: a split of prepared data, or files with the labels of a model.

Shapes: N rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kd_dist.config.sections.data import LabelledData
from kd_dist.config.tasks import Task
from kd_dist.data.columns import parse_columns
from kd_dist.data.labelled_rows import BadRows, RawRow, RowReader, left_out, refuse_swapped_columns
from kd_dist.data.labels import Labels, by_clean_name, has_generic_names
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.row_labels import number_problem, refuse_shifted_indices
from kd_dist.errors import CorpusError, RunError, nearest


@dataclass(frozen=True)
class Examples:
    """Labelled texts. `labels` (N), or (N, C) for multi-label rows, are what `scores` takes, numbered by `label2id`."""

    split: str
    task: Task
    label2id: dict[str, int]
    texts: list[str]
    text_pairs: list[str] | None
    labels: np.ndarray

    def names(self) -> list[str]:
        """Return the names of the labels in the order of their indices."""
        return sorted(self.label2id, key=lambda name: self.label2id[name])


def read_split(tokens: Path, split: str) -> Examples:
    """Read the rows of a split of prepared data, or of validation where there are no test rows.

    Raises:
        RunError: the data has no labels, or no such rows.
    """
    prepared = PreparedRows(tokens)
    prepared.require_labels()
    if split == "test" and not prepared.num_rows("test"):
        print("the data has no test rows: scores are those on the validation rows", flush=True)
        return read_split(tokens, "validation")
    if not prepared.num_rows(split):
        raise RunError(f"{tokens} has no {split} rows: set data.{split} to a file, or leave it out to split some off")
    rows = prepared.dataset(split)
    return Examples(
        split=split,
        task=prepared.labels.task,
        label2id=prepared.label2id,
        texts=rows["text"][:],
        text_pairs=rows["text_pair"][:] if "text_pair" in rows.column_names else None,
        labels=rows.with_format("numpy")["labels"][:],  # as lists, thousands of labels a row take gigabytes
    )


def read_rows(data: LabelledData, label2id: dict[str, int], bad_rows: BadRows) -> Examples:
    """Read the rows of the files in `data.train`, for a model of these labels.

    Raises:
        CorpusError: files that cannot be read, no usable row, or, unless bad rows are skipped, a row without text, with
            a label that the model does not have, or without a finite number for regression; labels and texts in each
            other's columns, and numbers that are counted from 1 for labels without names.
    """
    labels, split = Labels(data.task, label2id), ", ".join(Path(file).name for file in data.train)
    columns = parse_columns(data.columns)
    rows = RowReader(data, columns, bad_rows).read(data.train)
    refuse_swapped_columns(rows, data, columns)
    kept = []
    for row in _as_the_model_names_them(rows, labels):
        if problem := _problem(row, labels):
            bad_rows.refuse(problem[0], f"{row.where}: {problem[1]}")
        else:
            kept.append(row)
    if not kept:
        raise CorpusError(f"no row of {split} is left to score ({left_out(bad_rows.counts)})")
    pairs = [row.text_pair for row in kept if row.text_pair is not None]
    numbers = np.array([labels.encode(row.labels) for row in kept])
    return Examples(split, data.task, label2id, [row.text for row in kept], pairs or None, numbers)


def _as_the_model_names_them(rows: Sequence[RawRow], labels: Labels) -> Sequence[RawRow]:
    """Find names that are not clean by their clean form, and take numbers for the labels of a model without names."""
    if labels.task == "regression":
        return rows
    names = labels.names()
    model_names = {name: names[index] for name, index in by_clean_name(labels.ids).items()}
    if has_generic_names(labels.ids):
        refuse_shifted_indices(rows, labels.ids, "the model")
        model_names |= {str(index): name for index, name in enumerate(names)}
    return [replace(row, labels=tuple(model_names.get(label, label) for label in row.labels)) for row in rows]


def _problem(row: RawRow, labels: Labels) -> tuple[str, str] | None:
    """Return (reason, message) if the row has a label that cannot be scored."""
    if labels.task == "regression":
        return number_problem(row.labels[0])
    unknown = [label for label in row.labels if label not in labels.ids]
    if not unknown:
        return None
    names = f"the {len(labels.ids)} labels of the model ({', '.join(list(labels.ids)[:20])})"
    return "unknown label", f"{unknown[0]!r} is none of {names}{nearest(unknown[0], labels.ids)}"
