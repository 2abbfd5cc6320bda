"""The labels of data, and which outputs of a model they are."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_dist.config.tasks import Task
from kd_dist.data.cleaning import clean
from kd_dist.data.lines import numbered_lines
from kd_dist.errors import CorpusError, UserError

NO_LABEL = -100
"""The class index that PyTorch's cross-entropy ignores."""


def label_order(names: Iterable[str]) -> list[str]:
    """Return each name once, sorted: numbers by value, then words."""

    def key(name: str) -> tuple[float, str]:
        return (float(name), name) if is_finite_number(name) else (math.inf, name)

    return sorted(set(names), key=key)


def is_finite_number(text: str) -> bool:
    """Return whether a text is a number, and neither infinite nor NaN."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_label_names(path: Path) -> list[str]:
    """Read label names, one per line, in the order of their indices, cleaned; only the last lines may be empty.

    Raises:
        CorpusError: an empty line in between, a repeated name, or a file without names.
    """
    lines = [(number, clean(line)) for number, line in numbered_lines(path)]
    while lines and not lines[-1][1]:
        lines.pop()
    if not lines:
        raise CorpusError(f"{path}: no label names")
    first_line: dict[str, int] = {}
    for number, name in lines:
        if not name:
            raise CorpusError(f"{path}, line {number}: empty, but names follow; the line of a name is its index")
        if name in first_line:
            raise CorpusError(f"{path}, line {number}: {name!r} is in line {first_line[name]} already")
        first_line[name] = number
    return list(first_line)


@dataclass(frozen=True)
class Labels:
    """The labels of a data set.

    Attributes:
        task: one label of several, any number of labels, or a number.
        ids: the index of each label by its name; empty for regression.
    """

    task: Task
    ids: dict[str, int]

    @property
    def num_labels(self) -> int:
        """The number of outputs of a model for these labels: one for regression."""
        return max(1, len(self.ids))

    def names(self) -> list[str]:
        """Return the names in the order of their indices."""
        return sorted(self.ids, key=self.ids.__getitem__)

    def encode(self, labels: Sequence[str]) -> int | float | list[float]:
        """Return what the column `labels` holds for a row: an index, a number, or (C) 1.0 for each of its labels."""
        if self.task == "regression":
            return float(labels[0])
        if self.task == "single_label":
            return self.ids[labels[0]]
        row = [0.0] * self.num_labels
        for label in labels:
            row[self.ids[label]] = 1.0
        return row

    def missing(self) -> int | float | list[float]:
        """Return what stands for the label of a row without one, where others have them: `NO_LABEL`, or NaN."""
        if self.task == "single_label":
            return NO_LABEL
        return math.nan if self.task == "regression" else [math.nan] * self.num_labels

    def model_settings(self) -> dict[str, Any]:
        """Return what says the same in a configuration of transformers."""
        if self.task == "regression":
            return {"problem_type": "regression", "num_labels": self.num_labels}
        id2label = {index: name for name, index in self.ids.items()}
        return {
            "problem_type": f"{self.task}_classification",
            "num_labels": self.num_labels,
            "label2id": self.ids,
            "id2label": id2label,
        }


NAMES_SHOWN = 8


def by_clean_name(ids: Mapping[str, int]) -> dict[str, int]:
    """Return the ids by the names as data has them, cleaned; of two that are then equal, by the one that was clean."""
    return {clean(name): index for name, index in ids.items()} | {n: i for n, i in ids.items() if clean(n) == n}


def columns_by_name(id2label: Mapping[int, str]) -> dict[str, int]:
    """Return the column of a model's logits for each label, from `config.id2label`; `label2id` may be missing."""
    return {str(name): index for index, name in id2label.items()}


def align_labels(model_labels: Mapping[str, int], data_labels: Mapping[str, int]) -> list[int]:
    """Return the columns of a model's logits in the order of the data's labels, for `logits_BC[:, columns]`.

    Labels are matched by name, so their order may differ; names that are equal once they are cleaned match. A model
    that only numbers its labels (LABEL_0, LABEL_1, ...) is assumed to use the order of the data, which a line on stderr
    says.

    Raises:
        UserError: the names or their number differ.
    """
    cleaned = by_clean_name(model_labels), by_clean_name(data_labels)
    for of_model, of_data in ((model_labels, data_labels), cleaned):
        if set(of_model) == set(of_data) and len(of_model) == len(model_labels) == len(data_labels):
            return [of_model[name] for name, _ in sorted(of_data.items(), key=lambda item: item[1])]
    if has_generic_names(model_labels) and len(model_labels) == len(data_labels):
        print(
            f"note: the model numbers its {len(model_labels)} labels without naming them; they are assumed to be in "
            f"the order of the data: {_shown(sorted(data_labels, key=lambda name: data_labels[name]))}",
            file=sys.stderr,
        )
        return list(range(len(data_labels)))
    raise UserError(_difference(model_labels, data_labels))


def has_generic_names(labels: Mapping[str, int]) -> bool:
    """Return whether these are the names that transformers gives to labels without names."""
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
