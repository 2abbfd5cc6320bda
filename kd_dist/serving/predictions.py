"""Predict the labels of texts.

Shapes: N rows, C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.readers import Texts
from kd_dist.errors import RunError, UserError
from kd_dist.evaluation.scores import predictions, probabilities
from kd_dist.models.classifier import Classifier
from kd_dist.models.classifier import predict as answers_to
from kd_dist.models.classifier_output import ClassifierOutput

# The texts by column, `label` and `probability` (lists where a text may have several labels, a number without
# probability for regression), and `exit_layer` of a model with branches.
Record = dict[str, Any]


def predict(
    classifier: Classifier, preprocessing: Preprocessing, rows: Sequence[Texts], batch_size: int
) -> tuple[list[Record], int]:
    """Return a record for every row, and how many rows were too long and were truncated.

    A record has `label` and `probability`: for multi-label models lists of the labels above one half, the most probable
    first; for regression only `label`, a number. A model with branches adds `exit_layer`, counted from 1.

    Raises:
        RunError: there are more or fewer answers than texts.
    """
    firsts = [row[0] for row in rows]
    seconds = [row[1] for row in rows] if len(rows[0]) == 2 else None
    encodings, cut = classifier.encode(preprocessing, firsts, seconds)
    records = _records(classifier, answers_to(classifier, encodings, batch_size))
    if len(records) != len(rows):
        raise RunError(f"{len(records):,} answers to {len(rows):,} texts: which belongs to which is not known")
    return records, cut


def _records(classifier: Classifier, answers: ClassifierOutput) -> list[Record]:
    records = _predictions(classifier, answers.logits_NC.numpy())
    if answers.layers_N is None:
        return records
    return [record | {"exit_layer": layer} for record, layer in zip(records, answers.layers_N.tolist(), strict=True)]


def _predictions(classifier: Classifier, logits_NC: np.ndarray) -> list[Record]:
    names, task = classifier.labels, classifier.task
    predicted = predictions(task, logits_NC)
    if task == "regression":
        return [{"label": float(value)} for value in predicted]
    probabilities_NC = probabilities(task, logits_NC)
    if task == "single_label":
        best = probabilities_NC[np.arange(len(predicted)), predicted]
        return [{"label": names[i], "probability": float(p)} for i, p in zip(predicted, best, strict=True)]
    order_NC = (-probabilities_NC).argsort(axis=1, kind="stable")
    chosen = [[i for i in order if given[i]] for order, given in zip(order_NC, predicted, strict=True)]
    return [
        {"label": [names[i] for i in row], "probability": [float(p[i]) for i in row]}
        for row, p in zip(chosen, probabilities_NC, strict=True)
    ]


def checked_speed(option: str, text: str) -> float:
    """Parse the speed that was given to an option.

    Raises:
        UserError: the text is not a number from 0 to 1.
    """
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 <= speed <= 1:
        raise UserError(f"{option} {text}: a speed is a number from 0 (all layers) to 1 (exit at the first)")
    return speed
