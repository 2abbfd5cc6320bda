"""Split labelled rows without leaks."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.columns import parse_columns
from kd_dist.data.data_report import Report, describe_rows, label_report
from kd_dist.data.labelled_rows import BadRows, refuse_header_as_row, refuse_swapped_columns
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import HELD_OUT, SPLITS
from kd_dist.data.row_blocks import Rows, read_rows
from kd_dist.data.row_labels import alike_labels, find_labels, refuse_shifted_indices, resolve_labels
from kd_dist.errors import CorpusError

Splits = dict[str, Rows]


def load_splits(data: LabelledData, blocks: Path) -> tuple[Splits, Labels, Report]:
    """Return the rows of every split, their labels, and a report on them.

    Splits that are not given are split off train, stratified by class. Then train rows that are also in another split
    are removed (`data.remove_leaked`), and `data.max_rows` are drawn, stratified, with at least one row per class. The
    same files, settings and seed give the same rows.

    Args:
        data: files and settings.
        blocks: folder of the blocks that hold the texts, as long as the rows are used.

    Raises:
        CorpusError: what `read_rows`, `refuse_swapped_columns`, `refuse_header_as_row`, `find_labels` and
            `refuse_shifted_indices` refuse; a label without a training row (if bad rows are skipped it only keeps its
            index); no row for training or none for validation.
    """
    bad_rows = {split: BadRows(skip=data.bad_rows == "skip") for split in SPLITS}
    given = [split for split in SPLITS if getattr(data, split)]
    read = {split: read_rows(data, split, blocks, bad_rows[split]) for split in given}
    splits = {split: rows for split, (rows, _) in read.items()}
    refuse_swapped_columns(splits["train"], data, parse_columns(data.columns))
    refuse_header_as_row(splits["train"], data)
    labels = find_labels(data, splits["train"], read["train"][1])
    if data.label_names:
        firsts = (rows[first] for rows in splits.values() for _, first, _ in rows.label_sets_in_use())
        refuse_shifted_indices(firsts, labels.ids, data.label_names)
    splits = {split: resolve_labels(rows, labels, data, split, bad_rows[split]) for split, rows in splits.items()}
    splits = split_off(splits, data)
    report: Report = {"task": data.task, "duplicates_in_train": _num_duplicates(splits["train"])}
    report["alike_labels"] = _alike_labels((spellings for _, spellings in read.values()), data)
    report["leaks"] = {**count_leaks(splits), "removed": data.remove_leaked}
    if data.remove_leaked:
        splits["train"] = splits["train"].select(~_are_in(splits, "train", HELD_OUT))
    splits = {split: _drawn(rows, data, [data.seed, 1, i]) for i, (split, rows) in enumerate(splits.items())}
    _check(splits, labels, data)
    report |= {split: describe_rows(rows, labels, bad_rows[split]) for split, rows in splits.items()}
    return splits, labels, report | label_report(splits["train"], report["train"]["labels"])


def _alike_labels(spellings: Iterable[Counter[str]], data: LabelledData) -> list[dict[str, int]]:
    return [] if data.task == "regression" else alike_labels(sum(spellings, Counter()))


def split_off(splits: Splits, data: LabelledData) -> Splits:
    """Return train, validation and test, splitting off train what is missing, stratified by class.

    If validation is given and test is not, test stays empty. The fractions are of the rows that train has at first.
    """
    train = splits["train"]
    shares = {} if "validation" in splits else {"validation": data.validation_fraction}
    if len(splits) == 1:
        shares["test"] = data.test_fraction
    made = dict(splits)
    for number, (split, share) in enumerate(shares.items()):
        classes = _classes(made["train"], data.task)
        held_out = stratified(classes, round(share * len(train)), np.random.default_rng([data.seed, 0, number]))
        made[split], made["train"] = made["train"].select(held_out), made["train"].select(~held_out)
    none = np.zeros(len(made["train"]), dtype=bool)
    return {split: made[split] if split in made else made["train"].select(none) for split in SPLITS}


def _classes(rows: Rows, task: str) -> np.ndarray:
    """Return the number of each row's class: its label, the rarest of several (Sechidis et al. 2011), 0 for numbers."""
    if task == "regression":
        return np.zeros(len(rows), dtype=np.int64)
    counts = rows.label_counts()
    classes = [min(labels, key=lambda label: (counts[label], label), default="") for labels in rows.label_sets]
    numbers = {name: number for number, name in enumerate(sorted(set(classes)))}
    return np.array([numbers[name] for name in classes])[rows.column("label_set")]


def stratified(classes: Sequence[str] | np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` rows with every class in proportion, to within one row, and leave at least one row of each class.

    Rows are sorted by class, shuffled within a class, and taken at equal distances (systematic sampling).

    Returns:
        (N) which rows are drawn: fewer than `count` if otherwise a class would be left without a row.
    """
    shuffled = rng.permutation(len(classes))
    classes = np.asarray(classes)[shuffled]
    in_order = np.argsort(classes, kind="stable")
    order, classes = shuffled[in_order], classes[in_order]
    candidates = order[1:][classes[1:] == classes[:-1]]  # all but the first of each class
    count = min(count, len(candidates))
    drawn = np.zeros(len(classes), dtype=bool)
    places = (np.arange(count) + rng.random()) * (len(candidates) / max(count, 1))
    drawn[candidates[places.astype(np.int64)]] = True
    return drawn


def _drawn(rows: Rows, data: LabelledData, seed: list[int]) -> Rows:
    """Draw `data.max_rows` of the rows, or one of each class if that is more."""
    if data.max_rows is None or len(rows) <= data.max_rows:
        return rows
    return rows.select(~stratified(_classes(rows, data.task), len(rows) - data.max_rows, np.random.default_rng(seed)))


def _check(splits: Splits, labels: Labels, data: LabelledData) -> None:
    for split, way_out in (("train", "data.remove_leaked=false keeps them"), ("validation", "give data.validation")):
        if not len(splits[split]):
            raise CorpusError(
                f"no row is left for {split}: there are too few, or all are in other splits too ({way_out})"
            )
    with_rows = splits["train"].label_counts()
    empty = [name for name in labels.ids if name not in with_rows]
    if empty and data.bad_rows == "error":
        drawn = "" if data.max_rows is None else f", or data.max_rows={data.max_rows} left them out"
        raise CorpusError(
            f"no training row for the label {', '.join(map(repr, empty[:10]))} ({len(empty)} of {len(labels.ids)}), or "
            f"all of its rows are also in validation or test{drawn}; data.bad_rows=skip goes on without"
        )


def count_leaks(splits: Splits) -> dict[str, int]:
    """Count the rows that are in two splits; `train_rows` are the train rows that are in any other split."""

    def shared(split: str, *others: str) -> int:
        return int(_are_in(splits, split, others).sum())

    return {
        "train_rows": shared("train", "validation", "test"),
        "train_rows_in_validation": shared("train", "validation"),
        "train_rows_in_test": shared("train", "test"),
        "validation_rows_in_train": shared("validation", "train"),
        "test_rows_in_train": shared("test", "train"),
        "test_rows_in_validation": shared("test", "validation"),
    }


def _are_in(splits: Splits, split: str, others: Sequence[str]) -> np.ndarray:
    """Return which rows of a split are also in others."""
    return np.isin(splits[split].column("key"), np.concatenate([splits[other].column("key") for other in others]))


def _num_duplicates(rows: Rows) -> int:
    return len(rows) - len(np.unique(rows.column("key")))
