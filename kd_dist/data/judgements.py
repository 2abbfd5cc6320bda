"""Read judgements of texts, as a language model or an ensemble gives them: a probability or logit for each class.

The judgements are in memory, and so are the texts that they are of; other texts of `data.id_texts` are not.

Shapes: N records of a file, C classes.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.config.sections.data import SoftLabelsData
from kd_dist.config.tasks import Task
from kd_dist.data.cleaning import clean
from kd_dist.data.judgement_files import NO_CLASSES, check_columns, find_judgements
from kd_dist.data.labels import Labels, by_clean_name
from kd_dist.data.prepared_rows import TEXTS
from kd_dist.data.readers import SET_TEXT_FIELD, Texts, clean_texts, read_records
from kd_dist.data.row_ids import RowTexts
from kd_dist.errors import CorpusError, nearest

SUM_TOLERANCE = 0.02  # probabilities are mostly rounded, to two places or so

SHOWN = 8


@dataclass
class Judgements:
    """What was read.

    Attributes:
        probabilities: (C) of the classes of each text, or of each pair of texts, cleaned.
        counts: of records by what became of them.
        lacking: how many judgements name no value for a class, by class.
        scales: what the numbers in each file were taken for, in words.
    """

    probabilities: dict[Texts, np.ndarray]
    counts: Counter[str]
    lacking: dict[str, int]
    scales: dict[str, str]


def read_judgements(data: SoftLabelsData, labels: Labels, pairs: bool) -> Judgements:
    """Read the judgements of all files, in order.

    A text that was judged twice keeps one of equal judgements, and gets the mean of different ones.

    Args:
        data: the files and settings.
        labels: the classes.
        pairs: whether two texts are judged together.

    Raises:
        CorpusError: what `find_judgements`, `check_columns`, `read_records` and `RowTexts` raise, a column that is no
            class, a cell that is no number, no judgement at all, and a regression; the message names file and place.
    """
    if labels.task == "regression":
        raise CorpusError(NO_CLASSES)
    text_columns = [data.text_field, TEXTS[1]][: 1 + pairs]
    files = find_judgements(data.soft_labels)
    for file in files:
        check_columns(file, data, text_columns)
    row_texts = RowTexts.of(files, data.id_field, data.id_texts, text_columns) if data.id_field else None
    reader = _Reader(data, labels, text_columns, row_texts)
    for file in files:
        reader.read(file)
    if not reader.found:
        raise CorpusError(f"no judgement in {', '.join(map(str, files[:3]))}: {in_words(reader.counts)}")
    means = {texts: np.mean(different, axis=0) for texts, different in reader.found.items()}
    lacking = dict(zip(labels.names(), map(int, reader.lacking_C), strict=True))
    return Judgements(means, reader.counts, {name: n for name, n in lacking.items() if n}, reader.scales)


LEFT_OUT = {
    "without_text": "without a text",
    "without_id": "without an id",
    "unknown_id": "with an id that no text in data.id_texts has",
    "without_number": "with an empty cell, NaN or infinity",
    "without_class": "without a class that is possible, or with the logit of one class alone",
}

CHANGED = {
    "normalized": "whose probabilities did not add up to 1, normalized",
    "equal": "of texts that were judged before, equally",
    "averaged": "of texts that were judged before, differently: averaged",
}


def in_words(counts: Counter[str]) -> str:
    """Describe what became of records."""

    def found(reasons: dict[str, str]) -> str:
        return ", ".join(f"{counts[name]:,} {what}" for name, what in reasons.items() if counts[name])

    left_out, changed = found(LEFT_OUT), found(CHANGED)
    words = f"{counts['records']:,} records" + (f"; left out: {left_out}" if left_out else "")
    return words + (f"; {changed}" if changed else "")


@dataclass
class _Reader:
    """Read files one after another; the attributes are as in `Judgements`, `found` has all different judgements."""

    data: SoftLabelsData
    labels: Labels
    text_columns: list[str]
    row_texts: RowTexts | None
    found: dict[Texts, list[np.ndarray]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    scales: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lacking_C = np.zeros(self.labels.num_labels, dtype=np.int64)
        self._no_classes = {*self.text_columns, *self.data.ignored_columns, self.data.id_field}
        self._classes = by_clean_name(self.labels.ids)
        self._columns: dict[tuple[str, ...], dict[str, int]] = {}

    def read(self, file: Path) -> None:
        """Add the judgements of a file."""
        texts: list[Texts] = []
        rows: list[np.ndarray] = []
        for place, values in read_records(file, None, SET_TEXT_FIELD):
            self.counts["records"] += 1
            where = f"{file}, {place}"
            found, lacking = self._texts(values, where)
            row_C, is_complete = self._numbers(values, where)
            if lacking or not is_complete:
                self.counts[lacking or "without_number"] += 1
                continue
            texts.append(found)
            rows.append(row_C)
        if rows:
            self._add(file, texts, np.stack(rows))

    def _texts(self, values: dict[str, Any], where: str) -> tuple[Texts, str]:
        """Return the texts that a record judges, and the count that it belongs to if it has none."""
        if self.row_texts:
            return self.row_texts.find(values, where)
        texts = clean_texts(values, self.text_columns, where)
        return texts, "" if all(texts) else "without_text"

    def _numbers(self, values: dict[str, Any], where: str) -> tuple[np.ndarray, bool]:
        """Return (C) the numbers of a record, NaN for a class that it does not name, and whether all are usable."""
        values = self._flat(values, where)
        names = tuple(values)
        if names not in self._columns:
            self._columns[names] = self._class_columns(names, where)
        columns = self._columns[names]
        row_C = np.full(self.labels.num_labels, np.nan)
        for name, index in columns.items():
            row_C[index] = self._number(values[name], f"{where}: {name!r}")
        numbers = row_C[list(columns.values())]
        return row_C, not (np.isnan(numbers) | (numbers == np.inf)).any()  # the logit of an impossible class is -inf

    def _flat(self, values: dict[str, Any], where: str) -> dict[str, Any]:
        """Return the values of a record that may be classes, those of objects within it too.

        Raises:
            CorpusError: a name is both in the record and in an object within it.
        """
        found: dict[str, Any] = {}
        for name, value in values.items():
            if name in self._no_classes:
                continue
            for inner, number in (value if isinstance(value, dict) else {name: value}).items():
                if inner in found:
                    raise CorpusError(f"{where}: {inner!r} is in it twice, beside an object and inside; give one")
                found[inner] = number
        return found

    def _number(self, value: Any, where: str) -> float:
        if value is None or (isinstance(value, str) and not value.strip()):
            return np.nan
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise CorpusError(f"{where} holds {type(value).__name__}, expected a probability or a logit")
        try:
            number = float(value)
        except ValueError:
            raise CorpusError(f"{where} holds {value!r:.60}, expected a probability or a logit") from None
        too_large = self.labels.task == "multi_label" and number > 1
        if self.data.scale == "probabilities" and (number < 0 or too_large):
            raise CorpusError(f"{where} holds {number:g}, which is no probability; set data.scale=logits if it is one")
        return number

    def _class_columns(self, names: Iterable[str], where: str) -> dict[str, int]:
        """Return the index of the class of each column that is one.

        Raises:
            CorpusError: a column is no class, or two are the same class.
        """
        columns = {name: self._classes.get(clean(name)) for name in names if name not in self._no_classes}
        if unknown := [name for name, index in columns.items() if index is None]:
            known = self.labels.names()
            shown = ", ".join(f"{name!r}{nearest(name, known)}" for name in unknown[:SHOWN])
            more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
            raise CorpusError(
                f"{where}: not among the classes of the labelled rows: {shown}{more}; the classes are "
                f"{_shown(known)}; rename the columns, or leave them out with data.ignored_columns="
                f"{','.join(unknown[:SHOWN])}"
            )
        found = {name: index for name, index in columns.items() if index is not None}
        if twice := [index for index, count in Counter(found.values()).items() if count > 1]:
            same = [name for name, index in found.items() if index == twice[0]]
            raise CorpusError(f"{where}: the columns {_shown(same)} are the same class; give one of them")
        return found

    def _add(self, file: Path, texts: Sequence[Texts], values_NC: np.ndarray) -> None:
        task, scale = self.labels.task, self.data.scale
        are_logits = look_like_logits(task, values_NC) if scale == "auto" else scale == "logits"
        self.scales[str(file)] = _scale_in_words(values_NC, task, are_logits, scale == "auto")
        convert = probabilities_of_logits if are_logits else normalized_probabilities
        probabilities_NC, usable_N, off_N = convert(task, values_NC)
        self.counts["without_class"] += int((~usable_N).sum())
        self.counts["normalized"] += int((off_N & usable_N).sum())
        self.lacking_C += np.isnan(values_NC[usable_N]).sum(axis=0)
        for number in np.flatnonzero(usable_N).tolist():
            different = self.found.setdefault(texts[number], [])
            row_C = probabilities_NC[number].astype(np.float32)
            if any(np.allclose(row_C, other, atol=1e-4) for other in different):
                self.counts["equal"] += 1
            else:
                self.counts["averaged"] += bool(different)
                different.append(row_C)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, itertools.islice(names, SHOWN))) + more


def look_like_logits(task: Task, values_NC: np.ndarray) -> bool:
    """Return whether numbers cannot be probabilities: some are below 0 or above 1.

    Single labels whose numbers are positive and add up to the same in every record are shares, such as percentages.
    """
    known = values_NC[~np.isnan(values_NC)]
    if not ((known < 0) | (known > 1)).any():
        return False
    sums_N = values_NC.sum(axis=1)  # NaN where a class is not named: no share of anything
    add_up_alike = len(sums_N) > 1 and bool(np.ptp(sums_N) <= SUM_TOLERANCE * sums_N.max())
    return task != "single_label" or (known < 0).any() or not add_up_alike


def _scale_in_words(values_NC: np.ndarray, task: Task, are_logits: bool, was_guessed: bool) -> str:
    known = values_NC[~np.isnan(values_NC)]
    said = f"numbers from {known.min():g} to {known.max():g}"
    if not are_logits:
        return f"probabilities, {said}"
    way = "softmax" if task == "single_label" else "sigmoid"
    hint = "; set data.scale=probabilities if they are shares" if was_guessed and known.min() >= 0 else ""
    return f"logits, made probabilities by {way}, {said}{hint}"


Converted = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(N, C) probabilities, (N) whether they can be used, and (N) whether what they were made of did not add up to 1."""


def normalized_probabilities(task: Task, values_NC: np.ndarray) -> Converted:
    """Make probabilities or shares, NaN where a class is not named, complete.

    Of single labels, classes that are not named share equally what the others leave of 1, and all are divided by their
    sum. Of several labels, one that is not named has probability 0.
    """
    known_NC, given_NC = ~np.isnan(values_NC), np.nan_to_num(values_NC)
    if task == "multi_label":
        none_N = np.zeros(len(values_NC), dtype=bool)
        return given_NC, known_NC.any(axis=1), none_N
    rest_N = (1 - given_NC.sum(axis=1)).clip(min=0) / (~known_NC).sum(axis=1).clip(min=1)
    given_NC = np.where(known_NC, given_NC, rest_N[:, None])
    sums_N = given_NC.sum(axis=1)
    usable_N = (sums_N > 0) & known_NC.any(axis=1)
    return given_NC / np.where(sums_N > 0, sums_N, 1)[:, None], usable_N, abs(sums_N - 1) > SUM_TOLERANCE


def probabilities_of_logits(task: Task, values_NC: np.ndarray) -> Converted:
    """Make logits probabilities, 0 for a class that is not named: the softmax, or the sigmoid of several labels."""
    known_NC, never_N = ~np.isnan(values_NC), np.zeros(len(values_NC), dtype=bool)
    if task == "multi_label":
        given_NC = np.where(known_NC, values_NC, -np.inf)
        return 1 / (1 + np.exp(-given_NC.clip(min=-700))), known_NC.any(axis=1), never_N
    given_NC = np.where(known_NC, values_NC, -np.inf)
    tops_N = given_NC.max(axis=1)
    usable_N = np.isfinite(tops_N) & (known_NC.sum(axis=1) > 1)
    exponentials_NC = np.exp(given_NC - np.where(np.isfinite(tops_N), tops_N, 0)[:, None])
    sums_N = exponentials_NC.sum(axis=1)
    return exponentials_NC / np.where(sums_N > 0, sums_N, 1)[:, None], usable_N, never_N
