"""Split labelled rows without leaks."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.columns import parse_columns
from kd_dist.data.data_report import Report, describe_rows, label_report
from kd_dist.data.labelled_rows import BadRows, RawRow, RowReader, refuse_header_as_row, refuse_swapped_columns
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import HELD_OUT, SPLITS
from kd_dist.data.row_labels import alike_labels, find_labels, refuse_shifted_indices, resolve_labels
from kd_dist.errors import CorpusError

Splits = dict[str, list[RawRow]]


def load_splits(data: LabelledData) -> tuple[Splits, Labels, Report]:
    """Return the rows of every split, their labels, and a report on them.

    Splits that are not given are split off train, stratified by class. Then train rows that are also in another split
    are removed (`data.remove_leaked`), and `data.max_rows` are drawn, stratified, with at least one row per class. The
    same files, settings and seed give the same rows.

    Raises:
        CorpusError: what `RowReader.read`, `refuse_swapped_columns`, `refuse_header_as_row`, `find_labels` and
            `refuse_shifted_indices` refuse; a label without a training row (if bad rows are skipped it only keeps its
            index); no row for training or none for validation.
    """
    columns = parse_columns(data.columns)
    bad_rows = {split: BadRows(skip=data.bad_rows == "skip") for split in SPLITS}
    given = [split for split in SPLITS if getattr(data, split)]
    readers = {split: RowReader(data, columns, bad_rows[split]) for split in given}
    splits = {split: reader.read(getattr(data, split)) for split, reader in readers.items()}
    refuse_swapped_columns(splits["train"], data, columns)
    refuse_header_as_row(splits["train"], data)
    labels = find_labels(data, splits["train"], readers["train"].spellings)
    if data.label_names:
        refuse_shifted_indices(itertools.chain.from_iterable(splits.values()), labels.ids, data.label_names)
    splits = {split: resolve_labels(rows, labels, data, split, bad_rows[split]) for split, rows in splits.items()}
    splits = split_off(splits, data)
    report: Report = {"task": data.task, "duplicates_in_train": _num_duplicates(splits["train"])}
    report["alike_labels"] = _alike_labels(readers.values())
    report["leaks"] = {**count_leaks(splits), "removed": data.remove_leaked}
    if data.remove_leaked:
        held_out = {row.key for split in HELD_OUT for row in splits[split]}
        splits["train"] = [row for row in splits["train"] if row.key not in held_out]
    splits = {split: _drawn(rows, data, [data.seed, 1, i]) for i, (split, rows) in enumerate(splits.items())}
    _check(splits, labels, data)
    report |= {split: describe_rows(rows, labels, bad_rows[split]) for split, rows in splits.items()}
    return splits, labels, report | label_report(splits["train"], report["train"]["labels"])


def _alike_labels(readers: Iterable[RowReader]) -> list[dict[str, int]]:
    return alike_labels(sum((reader.spellings for reader in readers if reader.data.task != "regression"), Counter()))


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
        made[split] = [row for row, is_out in zip(made["train"], held_out, strict=True) if is_out]
        made["train"] = [row for row, is_out in zip(made["train"], held_out, strict=True) if not is_out]
    return {split: made.get(split, []) for split in SPLITS}


def _classes(rows: Sequence[RawRow], task: str) -> list[str]:
    """Return the class of each row: its label, the rarest of several (Sechidis et al. 2011), none for numbers."""
    if task == "regression":
        return [""] * len(rows)
    counts = Counter(label for row in rows for label in row.labels)
    return [min(row.labels, key=lambda label: (counts[label], label), default="") for row in rows]


def stratified(classes: Sequence[str], count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` rows with every class in proportion, to within one row, and leave at least one row of each class.

    Rows are sorted by class, shuffled within a class, and taken at equal distances (systematic sampling).

    Returns:
        (N) which rows are drawn: fewer than `count` if otherwise a class would be left without a row.
    """
    order = sorted(rng.permutation(len(classes)).tolist(), key=lambda row: classes[row])
    firsts = {classes[row]: row for row in reversed(order)}
    candidates = np.array([row for row in order if firsts[classes[row]] != row], dtype=np.int64)
    count = min(count, len(candidates))
    drawn = np.zeros(len(classes), dtype=bool)
    places = (np.arange(count) + rng.random()) * (len(candidates) / max(count, 1))
    drawn[candidates[places.astype(np.int64)]] = True
    return drawn


def _drawn(rows: list[RawRow], data: LabelledData, seed: list[int]) -> list[RawRow]:
    """Draw `data.max_rows` of the rows, or one of each class if that is more."""
    if data.max_rows is None or len(rows) <= data.max_rows:
        return rows
    dropped = stratified(_classes(rows, data.task), len(rows) - data.max_rows, np.random.default_rng(seed))
    return [row for row, is_dropped in zip(rows, dropped, strict=True) if not is_dropped]


def _check(splits: Splits, labels: Labels, data: LabelledData) -> None:
    for split, way_out in (("train", "data.remove_leaked=false keeps them"), ("validation", "give data.validation")):
        if not splits[split]:
            raise CorpusError(
                f"no row is left for {split}: there are too few, or all are in other splits too ({way_out})"
            )
    with_rows = {label for row in splits["train"] for label in row.labels}
    empty = [name for name in labels.ids if name not in with_rows]
    if empty and data.bad_rows == "error":
        drawn = "" if data.max_rows is None else f", or data.max_rows={data.max_rows} left them out"
        raise CorpusError(
            f"no training row for the label {', '.join(map(repr, empty[:10]))} ({len(empty)} of {len(labels.ids)}), or "
            f"all of its rows are also in validation or test{drawn}; data.bad_rows=skip goes on without"
        )


def count_leaks(splits: Splits) -> dict[str, int]:
    """Count the rows that are in two splits; `train_rows` are the train rows that are in any other split."""
    keys = {split: {row.key for row in rows} for split, rows in splits.items()}

    def shared(split: str, *others: str) -> int:
        return sum(any(row.key in keys[other] for other in others) for row in splits[split])

    return {
        "train_rows": shared("train", "validation", "test"),
        "train_rows_in_validation": shared("train", "validation"),
        "train_rows_in_test": shared("train", "test"),
        "validation_rows_in_train": shared("validation", "train"),
        "test_rows_in_train": shared("test", "train"),
        "test_rows_in_validation": shared("test", "validation"),
    }


def _num_duplicates(rows: Sequence[RawRow]) -> int:
    return len(rows) - len({row.key for row in rows})
