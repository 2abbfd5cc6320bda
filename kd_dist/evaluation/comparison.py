"""Models side by side: means over seeds, ratios to the first model, and how each model is drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from kd_dist.evaluation.model_key import OWN_THRESHOLDS
from kd_dist.runs.metrics import is_finite

SCORE_NAMES = {"macro_f1": "macro F1", "micro_f1": "micro F1", "spearman": "Spearman", "pearson": "Pearson"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """The look of a model in pictures: the number of its colour in the palette, and matplotlib's name of the marker."""

    colour: int
    marker: str
    hollow: bool = False


KNOWN_LOOKS = {
    "teacher": Look(colour=1, marker="s"),
    "student": Look(colour=0, marker="o"),
    "student_alone": Look(colour=7, marker="o", hollow=True),
}
OTHER_COLOURS = (2, 3, 4, 5, 6)  # of models with other names, in turn


@dataclass
class Model:
    """A model, or a model with early exit at one speed, with the result row of each of its seeds."""

    name: str
    rows: list[Row]
    speed: float | None = None

    def exits_early(self) -> bool:
        """Return whether rows can exit before the last layer."""
        return bool(self.values("mean_layers"))

    def values(self, key: str) -> list[float]:
        """Return the finite values of `key`, at most one for each seed."""
        return [row[key] for row in self.rows if is_finite(row.get(key))]

    def mean(self, key: str) -> float | None:
        """Return the mean over the seeds; None where no value is known."""
        values = self.values(key)
        return fmean(values) if values else None

    def spread(self, key: str) -> float | None:
        """Return the standard deviation over the seeds; None for a single one."""
        values = self.values(key)
        return stdev(values) if len(values) > 1 else None

    def title(self) -> str:
        """Return the name in a form for reading."""
        return self.name.replace("_", " ")

    def label(self) -> str:
        """Return what the model is called in a legend."""
        return f"{self.title()}, {OWN_THRESHOLDS}" if self.exits_early() and self.speed is None else self.title()


@dataclass
class Comparison:
    """Models that are compared with the first one.

    Args:
        models: by name. A model with early exit is here with the thresholds of its export.
        at_speeds: models with early exit at every speed that was measured, the slowest first.
        scores: names of the scores, the one that decides first.
    """

    models: dict[str, Model]
    at_speeds: list[Model]
    scores: Sequence[str]

    @property
    def metric(self) -> str:
        """The score that decides."""
        return self.scores[0]

    def first(self) -> Model:
        """Return the model that all are compared with."""
        return next(iter(self.models.values()))

    def student(self) -> Model:
        """Return the model that the job is about."""
        return self.models.get("student") or list(self.models.values())[-1]

    def ratio(self, model: Model, key: str, *, larger_is_better: bool = False) -> float | None:
        """Return how many times better than the first model this one is; None where either value is missing or 0."""
        ours, theirs = model.mean(key), self.first().mean(key)
        if not ours or not theirs:
            return None
        return ours / theirs if larger_is_better else theirs / ours

    def early_exits(self) -> dict[str, list[Model]]:
        """Return by name each model with early exit: first with its own thresholds, then from slow to fast."""
        found = {model.name: [model] for model in self.models.values() if model.exits_early()}
        for model in self.at_speeds:
            found.setdefault(model.name, []).append(model)
        return found

    def look(self, name: str) -> Look:
        """Return how a model is drawn: the teacher as a square, the student as a disc, hollow without distillation."""
        return self._looks.get(name) or KNOWN_LOOKS.get(name) or Look(OTHER_COLOURS[0], "D")

    @cached_property
    def _looks(self) -> dict[str, Look]:
        names = dict.fromkeys([*self.models, *(model.name for model in self.at_speeds)])
        others = [name for name in names if name not in KNOWN_LOOKS]
        colours = {name: OTHER_COLOURS[index % len(OTHER_COLOURS)] for index, name in enumerate(others)}
        return {name: KNOWN_LOOKS.get(name) or Look(colours[name], "D") for name in names}


def group_rows(rows: Iterable[Row]) -> tuple[dict[str, Model], list[Model]]:
    """Group result rows, in which seed and speed are fields, by what they are about.

    Returns:
        Models by name, and those at a given speed from slow to fast; seeds of one model go together.
    """
    models: dict[str, Model] = {}
    at_speeds: dict[tuple[str, float], Model] = {}
    for row in rows:
        name, speed = row["model"], row.get("speed")
        if speed is None:
            models.setdefault(name, Model(name, [])).rows.append(row)
        else:
            at_speeds.setdefault((name, speed), Model(name, [], speed)).rows.append(row)
    return models, sorted(at_speeds.values(), key=lambda model: model.speed or 0.0)


def score_name(metric: str) -> str:
    """Return the name of a score in a text."""
    return SCORE_NAMES.get(metric, metric.replace("_", " "))


def score_title(metric: str) -> str:
    """Return the name of a score as it begins a title."""
    name = score_name(metric)
    return name[0].upper() + name[1:]
