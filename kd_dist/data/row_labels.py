"""The labels of raw rows: which there are, and which name each row means."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path

import numpy as np

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.cleaning import clean
from kd_dist.data.labelled_rows import BadRows, Problem, RawRow
from kd_dist.data.labels import Labels, is_finite_number, label_order, read_label_names
from kd_dist.data.row_blocks import Rows
from kd_dist.errors import CorpusError, nearest


def find_labels(data: LabelledData, train: Sized, spellings: Iterable[str]) -> Labels:
    """Return the labels that rows may have: those of the file of names or, without it, all of the training rows.

    Args:
        data: the settings.
        train: the training rows.
        spellings: their labels as the files write them (see `RowReader`).

    Raises:
        CorpusError: a bad file of names, or fewer than two labels to tell apart.
    """
    if data.task == "regression":
        return Labels(data.task, {})
    if data.label_names:
        names = read_label_names(Path(data.label_names))
    else:
        names = label_order(filter(None, map(clean, spellings)))
    if len(names) < 2:
        found = f"only one label, {names[0]!r}" if names else "no label"
        raise CorpusError(f"data.train: {found} in {len(train):,} rows: there is nothing to tell apart")
    return Labels(data.task, {name: index for index, name in enumerate(names)})


def alike_labels(spellings: Mapping[str, int]) -> list[dict[str, int]]:
    """Group the labels that differ by case, width, spaces, invisible characters or `.0` alone, with their rows.

    Args:
        spellings: the rows of each label as files write it (see `RowReader`).
    """
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    for spelling, count in spellings.items():
        groups["".join(clean(spelling).casefold().split()).removesuffix(".0")][spelling] = count
    return [group for name, group in groups.items() if name and len(group) > 1]


def refuse_shifted_indices(rows: Iterable[RawRow], names: Mapping[str, int], names_of: str) -> None:
    """Refuse indices that are not counted from 0, or are one more than the names: rows would get names of others.

    Any other index that is too large is that of a bad row.

    Args:
        rows: of all splits, the first one with each label at least.
        names: the indices of the names; a label that is a name is no index.
        names_of: what has these names.

    Raises:
        CorpusError: such indices, for example counted from 1.
    """
    first_rows: dict[int, RawRow] = {}
    for row in rows:
        for label in row.labels:
            if label not in names and _index(label) >= 0:
                first_rows.setdefault(_index(label), row)
    largest = max(first_rows, default=0)
    if largest >= len(names) and (0 not in first_rows or len(names) in first_rows):
        problem = "there is a name too few" if 0 in first_rows else f"they are counted from {min(first_rows)}"
        raise CorpusError(
            f"{first_rows[largest].where}: the label '{largest}' is not a name in {names_of} or an index from 0 to "
            f"{len(names) - 1}; the indices run from {min(first_rows)} to {largest}, so {problem} and rows would get "
            "the names of others: count from 0 with a name for each, or write names in place of indices"
        )


def resolve_labels(rows: Rows, labels: Labels, data: LabelledData, split: str, bad_rows: BadRows) -> Rows:
    """Replace indices into the file of names by the names; a label that is both is a name.

    Raises:
        CorpusError: a row of an unknown label, or one that is not a number for regression, unless bad rows are skipped.
    """
    num_indices = len(labels.ids) if data.label_names else 0
    names, label_sets = labels.names(), list(rows.label_sets)
    are_good = np.ones(len(label_sets), dtype=bool)
    for number, first, count in rows.label_sets_in_use():
        found = label_sets[number]
        if problem := _problem(found, labels, data, split, num_indices):
            bad_rows.refuse(problem.reason, f"{rows[first].where}: {problem.message}", count)
            are_good[number] = False
        elif data.task != "regression":
            resolved = (label if label in labels.ids else names[_index(label)] for label in found)
            label_sets[number] = tuple(dict.fromkeys(resolved))
    return dataclasses.replace(rows, label_sets=label_sets).select(are_good[rows.column("label_set")])


def _problem(found: Sequence[str], labels: Labels, data: LabelledData, split: str, num_indices: int) -> Problem | None:
    """Return what is wrong with the labels of a row."""
    if data.task == "regression":
        return number_problem(found[0])
    unknown = [label for label in found if label not in labels.ids and _index(label) not in range(num_indices)]
    if not unknown:
        return None
    near = nearest(unknown[0], labels.ids)
    if data.label_names:
        valid = f"a name in {data.label_names} or an index from 0 to {len(labels.ids) - 1}"
        return Problem("unknown label", f"the label {unknown[0]!r} is not {valid}{near}")
    message = f"the label {unknown[0]!r} is only in {split}, no training row has it{near}"
    return Problem(f"label only in {split}", message)


def _index(label: str) -> int:
    """Return the index that a label is, also as `3.0`, which tables with missing values write; -1 for a name."""
    number = label.removesuffix(".0")
    return int(number) if number.isdecimal() else -1


def number_problem(label: str) -> Problem | None:
    """Return what is wrong with a label that has to be a number."""
    return None if is_finite_number(label) else Problem("not a number", f"{label!r} is not a finite number")
