"""What an evaluation writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.config.tasks import main_metric
from kd_dist.data.examples import Examples
from kd_dist.evaluation.pictures import plot_confusion, plot_speeds
from kd_dist.evaluation.scores import confusion_matrix, per_class, predictions, probabilities
from kd_dist.evaluation.scoring import Scored, distillation_hurts
from kd_dist.files import write_json


def write_evaluation(
    directory: Path, examples: Examples, scored: Mapping[str, Scored], guard: Mapping[str, Any] | None
) -> list[Path]:
    """Write evaluation.json, and the predictions and confusion matrix of every model.

    Returns:
        Pictures that compare speeds, where there are any.
    """
    content: dict[str, Any] = {
        "split": examples.split,
        "rows": len(examples.texts),
        "task": examples.task,
        "labels": examples.names(),
        "models": {name: _details(one, examples) for name, one in scored.items()},
    }
    if guard is not None:
        content["guard"] = guard
    hurts = distillation_hurts({name: one.row for name, one in scored.items()}, main_metric(examples.task))
    if hurts is not None:
        content["distillation_hurts"] = hurts
    if hurts:
        print("distillation hurt: the student alone, without a teacher, is better", flush=True)
    for name, one in scored.items():
        if one.classifier.speed is not None:  # one model at many speeds: what it is like by itself is enough to look at
            continue
        _write_predictions(directory / f"predictions_{name}.parquet", examples, one)
        if examples.task == "single_label":
            matrix_CC = confusion_matrix(one.logits_NC, examples.labels)
            plot_confusion(directory / f"confusion_{name}.png", matrix_CC, examples.names(), name)
    write_json(directory / "evaluation.json", content)
    return plot_speeds(directory, content["models"], main_metric(examples.task))


def _details(one: Scored, examples: Examples) -> dict[str, Any]:
    details = {
        "path": str(one.classifier.directory),
        **one.row,
        "per_class": per_class(examples.task, one.logits_NC, examples.labels, examples.names()),
    }
    if one.layers_N is not None:
        details["exit_layers"] = np.bincount(one.layers_N, minlength=one.classifier.num_layers + 1)[1:].tolist()
    if examples.task == "single_label":
        details["confusion_matrix"] = confusion_matrix(one.logits_NC, examples.labels).tolist()
    return details


def _write_predictions(path: Path, examples: Examples, one: Scored) -> None:
    """Columns text, (text_pair,) label, predicted, probability (of single labels, or of lists of labels), and
    (exit_layer)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pairs = {} if examples.text_pairs is None else {"text_pair": examples.text_pairs}
    exits = {} if one.layers_N is None else {"exit_layer": one.layers_N}
    columns = {"text": examples.texts, **pairs, **_predicted(examples, one.logits_NC), **exits}
    pq.write_table(pa.table(columns), path)


def _predicted(examples: Examples, logits_NC: np.ndarray) -> dict[str, Any]:
    if examples.task == "regression":
        return {"label": examples.labels.reshape(-1), "predicted": logits_NC[:, 0]}
    names = np.array(examples.names(), dtype=object)
    probabilities_NC = probabilities(examples.task, logits_NC)
    predicted = predictions(examples.task, logits_NC)
    if examples.task == "single_label":
        best = probabilities_NC[np.arange(len(predicted)), predicted]
        return {"label": names[examples.labels], "predicted": names[predicted], "probability": best}
    return {
        "label": [list(names[row > 0]) for row in examples.labels],
        "predicted": [list(names[row > 0]) for row in predicted],
        "probability": [list(p[row > 0]) for p, row in zip(probabilities_NC, predicted, strict=True)],
    }
