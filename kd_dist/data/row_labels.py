"""The labels of raw rows: which there are, and which name each row means."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.labelled_rows import BadRows, RawRow
from kd_dist.data.labels import Labels, is_finite_number, label_order, read_label_names
from kd_dist.errors import CorpusError, nearest

Problem = tuple[str, str]  # the reason, by which bad rows are counted, and the message


def find_labels(data: LabelledData, train: Sequence[RawRow]) -> Labels:
    """Return the labels that rows may have: those of the file of names or, without it, all of the training rows.

    Raises:
        CorpusError: a bad file of names, or fewer than two labels to tell apart.
    """
    if data.task == "regression":
        return Labels(data.task, {})
    if data.label_names:
        names = read_label_names(Path(data.label_names))
    else:
        names = label_order(label for row in train for label in row.labels)
    if len(names) < 2:
        found = f"only one label, {names[0]!r}" if names else "no label"
        raise CorpusError(f"data.train: {found} in {len(train):,} rows: there is nothing to tell apart")
    return Labels(data.task, {name: index for index, name in enumerate(names)})


def resolve_labels(
    rows: Iterable[RawRow], labels: Labels, data: LabelledData, split: str, bad_rows: BadRows
) -> list[RawRow]:
    """Replace indices into the file of names by the names; a label that is both is a name.

    Raises:
        CorpusError: a row of an unknown label, or one that is not a number for regression, unless bad rows are skipped.
    """
    num_indices = len(labels.ids) if data.label_names else 0
    kept, names = [], labels.names()
    for row in rows:
        if problem := _problem(row, labels, data, split, num_indices):
            bad_rows.refuse(problem[0], f"{row.where}: {problem[1]}")
        elif data.task == "regression" or all(label in labels.ids for label in row.labels):
            kept.append(row)
        else:
            resolved = (label if label in labels.ids else names[int(label)] for label in row.labels)
            kept.append(dataclasses.replace(row, labels=tuple(dict.fromkeys(resolved))))
    return kept


def _problem(row: RawRow, labels: Labels, data: LabelledData, split: str, num_indices: int) -> Problem | None:
    if data.task == "regression":
        return number_problem(row)
    unknown = [label for label in row.labels if label not in labels.ids and not _is_index(label, num_indices)]
    if not unknown:
        return None
    near = nearest(unknown[0], labels.ids)
    if data.label_names:
        valid = f"a name in {data.label_names} or an index from 0 to {len(labels.ids) - 1}"
        return "unknown label", f"the label {unknown[0]!r} is not {valid}{near}"
    return f"label only in {split}", f"the label {unknown[0]!r} is only in {split}, no training row has it{near}"


def _is_index(label: str, num_indices: int) -> bool:
    return label.isdecimal() and int(label) < num_indices


def number_problem(row: RawRow) -> Problem | None:
    """Return what is wrong with a row whose label has to be a number."""
    number = row.labels[0]
    return None if is_finite_number(number) else ("not a number", f"{number!r} is not a finite number")
