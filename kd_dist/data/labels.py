"""Labels: which there are, how rows hold them, and which label of a model is which label of the data."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd_dist.config.sections.data import LabelledData
from kd_dist.data.labelled_rows import BadRows, RawRow
from kd_dist.data.lines import numbered_lines
from kd_dist.errors import CorpusError, UserError, nearest


def label_order(names: Iterable[str]) -> list[str]:
    """Each once, sorted: numbers by value, then words."""

    def key(name: str) -> tuple[float, str]:
        return (float(name), name) if is_finite_number(name) else (math.inf, name)

    return sorted(set(names), key=key)


def is_finite_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_label_names(path: Path) -> list[str]:
    """Read label names, a line each, in the order of their indices; empty lines may stand at the end only.

    Raises CorpusError for an empty line in between, a name that stands twice, and a file without names.
    """
    lines = [(number, line.strip()) for number, line in numbered_lines(path)]
    while lines and not lines[-1][1]:
        lines.pop()
    if not lines:
        raise CorpusError(f"{path}: no label names")
    first_line: dict[str, int] = {}
    for number, name in lines:
        if not name:
            raise CorpusError(f"{path}, line {number}: empty, but names follow; the line of a name is its index")
        if name in first_line:
            raise CorpusError(f"{path}, line {number}: {name!r} stands in line {first_line[name]} already")
        first_line[name] = number
    return list(first_line)


@dataclass(frozen=True)
class Labels:
    """The labels that rows may have: those of the file of names, or all that the training files hold.

    `ids`: index by name; empty for regression. With a file of names, rows hold names or indices; a label that is both
    is a name.
    """

    data: LabelledData
    ids: dict[str, int]

    @classmethod
    def of(cls, data: LabelledData, train: Sequence[RawRow]) -> "Labels":
        """Raises CorpusError for a bad file of names, and when there are not two labels to tell apart."""
        if data.task == "regression":
            return cls(data, {})
        if data.label_names:
            names = read_label_names(Path(data.label_names))
        else:
            names = label_order(label for row in train for label in row.labels)
        if len(names) < 2:
            found = f"only one label, {names[0]!r}" if names else "no label"
            raise CorpusError(f"data.train: {found} in {len(train):,} rows: there is nothing to tell apart")
        return cls(data, {name: index for index, name in enumerate(names)})

    def resolved(self, rows: Iterable[RawRow], split: str, bad_rows: BadRows) -> list[RawRow]:
        """The rows with names in place of indices into the file of names; rows of unknown labels are refused."""
        kept, names = [], list(self.ids)
        for row in rows:
            if problem := self._problem(row, split):
                bad_rows.refuse(problem[0], f"{row.where}: {problem[1]}")
            elif all(label in self.ids for label in row.labels) or self.data.task == "regression":
                kept.append(row)
            else:
                labels = (label if label in self.ids else names[int(label)] for label in row.labels)
                kept.append(dataclasses.replace(row, labels=tuple(dict.fromkeys(labels))))
        return kept

    def encoded(self, row: RawRow) -> int | float | list[float]:
        """What the column `labels` holds for a row."""
        if self.data.task == "regression":
            return float(row.labels[0])
        if self.data.task == "single_label":
            return self.ids[row.labels[0]]
        return [float(name in row.labels) for name in self.ids]

    def _problem(self, row: RawRow, split: str) -> tuple[str, str] | None:
        """(reason, message) when the row has a label that cannot be used."""
        if self.data.task == "regression":
            number = row.labels[0]
            return None if is_finite_number(number) else ("not a number", f"{number!r} is not a finite number")
        unknown = [label for label in row.labels if label not in self.ids and not self._is_index(label)]
        if not unknown:
            return None
        near = nearest(unknown[0], self.ids)
        if self.data.label_names:
            valid = f"a name in {self.data.label_names} or an index from 0 to {len(self.ids) - 1}"
            return "unknown label", f"the label {unknown[0]!r} is not {valid}{near}"
        return f"label only in {split}", f"the label {unknown[0]!r} is only in {split}, no training row has it{near}"

    def _is_index(self, label: str) -> bool:
        return bool(self.data.label_names) and label.isdecimal() and int(label) < len(self.ids)


NAMES_SHOWN = 8


def columns_by_name(id2label: Mapping[int, str]) -> dict[str, int]:
    """Which column of a model's logits each label is, by `config.id2label`; a model need not have a `label2id`."""
    return {str(name): index for index, name in id2label.items()}


def align_labels(model_labels: Mapping[str, int], data_labels: Mapping[str, int]) -> list[int]:
    """Which column of a model's logits is each label of the data: `logits_BC[:, columns]` is in the data's order.

    Labels are matched by name, so another order does no harm. A model that only numbers its labels (LABEL_0, LABEL_1,
    ...) is taken to use the order of the data, which a line on stderr says.

    Raises:
        UserError: the names, or how many there are, differ.
    """
    if set(model_labels) == set(data_labels):
        return [model_labels[name] for name, _ in sorted(data_labels.items(), key=lambda item: item[1])]
    if has_generic_names(model_labels) and len(model_labels) == len(data_labels):
        print(
            f"note: the model numbers its {len(model_labels)} labels without naming them; they are taken to be in the "
            f"order of the data: {_shown(sorted(data_labels, key=lambda name: data_labels[name]))}",
            file=sys.stderr,
        )
        return list(range(len(data_labels)))
    raise UserError(_difference(model_labels, data_labels))


def has_generic_names(labels: Mapping[str, int]) -> bool:
    """Whether these are the names that transformers gives to labels without names."""
    return all(name == f"LABEL_{index}" for name, index in labels.items())


def _difference(model_labels: Mapping[str, int], data_labels: Mapping[str, int]) -> str:
    lacking = [name for name in data_labels if name not in model_labels]
    foreign = [name for name in model_labels if name not in data_labels]
    parts = [f"the model has {len(model_labels)} labels, the data {len(data_labels)}"]
    if lacking:
        parts.append(f"the model does not know {_shown(lacking)}")
    if foreign:
        parts.append(f"the data does not have {_shown(foreign)}")
    way_out = "use a model trained on these labels, or rename the labels of the data so that they are the same"
    return f"labels of model and data differ: {'; '.join(parts)}; {way_out}"


def _shown(names: Sequence[str]) -> str:
    rest = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:NAMES_SHOWN])) + rest
