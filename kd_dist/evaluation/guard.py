"""Judge whether a teacher is good enough to teach."""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from kd_dist.config.sections.evaluation import Guards
from kd_dist.config.tasks import main_metric
from kd_dist.data.examples import Examples
from kd_dist.errors import RunError
from kd_dist.evaluation.scoring import Scored

Z_95 = NormalDist().inv_cdf(0.975)


def wilson_lower_bound(share: float, num_rows: int) -> float:
    """Return the lower end of the 95 % interval of a share observed on `num_rows` rows (Wilson 1927)."""
    z2 = Z_95**2
    spread = Z_95 * math.sqrt(share * (1 - share) / num_rows + z2 / (4 * num_rows**2))
    return (share + z2 / (2 * num_rows) - spread) / (1 + z2 / num_rows)


def fisher_lower_bound(correlation: float, num_rows: int) -> float:
    """Return the lower end of the 95 % interval of a correlation (Fisher's z).

    It is -1 for fewer than four rows, which say nothing.
    """
    if num_rows < 4:
        return -1.0
    bounded = min(max(correlation, -1 + 1e-12), 1 - 1e-12)
    return math.tanh(math.atanh(bounded) - Z_95 / math.sqrt(num_rows - 3))


def judge(scored: Scored, examples: Examples) -> dict[str, Any]:
    """Judge a model by its main metric (see `judge_value`)."""
    return judge_value(scored.row[main_metric(examples.task)], examples)


def judge_value(value: float, examples: Examples) -> dict[str, Any]:
    """Judge whether a model is better, with statistical certainty, than one that has not read the text.

    Single labels: the lower 95 % bound of the accuracy (Wilson) against the share of the largest class. Multi-label:
    micro-F1 against that of always predicting the most frequent label. Numbers: the lower 95 % bound of Spearman's
    correlation (Fisher's z) against 0.

    Args:
        value: the main metric of the model.
        examples: what it was measured on.

    Returns:
        The guard's entry in evaluation.json: `metric`, `value`, `lower_bound`, `baseline`, `baseline_label`, `rows` and
        `passed`.
    """
    metric, num_rows = main_metric(examples.task), len(examples.labels)
    bound, label = value, None
    if examples.task == "regression":
        bound, baseline = fisher_lower_bound(value, num_rows), 0.0
    elif examples.task == "single_label":
        counts_C = np.bincount(examples.labels, minlength=len(examples.label2id))
        bound, baseline = wilson_lower_bound(value, num_rows), counts_C.max() / num_rows
        label = examples.names()[counts_C.argmax()]
    else:
        counts_C = examples.labels.sum(axis=0)
        # Precision is max / N, recall max / sum.
        baseline = 2 * counts_C.max() / (num_rows + counts_C.sum())
        label = examples.names()[counts_C.argmax()]
    return {
        "metric": metric,
        "value": value,
        "lower_bound": bound,
        "baseline": float(baseline),
        "baseline_label": label,
        "rows": num_rows,
        "passed": bool(bound > baseline),
    }


TRAIN_LONGER = "Train the teacher longer, look at its labels and its data report"


def enforce(guards: Guards, guard: Mapping[str, Any], who: str = "the teacher's", way_out: str = TRAIN_LONGER) -> None:
    """Stop the run, or print a warning, when the guard has not passed.

    Args:
        guards: which of the two.
        guard: the verdict of `judge` or `judge_value`.
        who: whose predictions were judged, for the message.
        way_out: what makes them better, the end of the message.

    Raises:
        RunError: `guards.teacher` is `refuse`.
    """
    if guard["passed"]:
        return
    always = f"always answering {guard['baseline_label']!r} gives" if guard["baseline_label"] else "chance gives"
    found = (
        f"{who} {guard['metric']} is {guard['value']:.4f} on {guard['rows']:,} rows (lower 95 % bound "
        f"{guard['lower_bound']:.4f}), but {always} {guard['baseline']:.4f}"
    )
    if guards.teacher == "warn":
        print(f"warning: {found}; a student of it will be no better", flush=True)
        return
    raise RunError(f"{found}: there is nothing to distil. {way_out}, or go on regardless with guards.teacher=warn")
