"""Write the results of an evaluation: evaluation.json, the predictions of every model, and pictures."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.config.tasks import METRICS, main_metric
from kd_dist.data.examples import Examples
from kd_dist.evaluation.comparison import Comparison, group_rows, score_title
from kd_dist.evaluation.confusion import Confusion
from kd_dist.evaluation.model_key import ModelKey
from kd_dist.evaluation.pictures.by_speed import exit_histograms, speed_tradeoffs
from kd_dist.evaluation.pictures.confusion import confusion_figure
from kd_dist.evaluation.pictures.drawing import LIGHT
from kd_dist.evaluation.pictures.exit_layers import exit_layers_figure
from kd_dist.evaluation.pictures.tradeoff import tradeoff_figure
from kd_dist.evaluation.scores import Predicted, per_class
from kd_dist.evaluation.scoring import Scored, distillation_hurts
from kd_dist.files import write_json

DOTS_PER_INCH = 144


def write_evaluation(
    directory: Path, examples: Examples, scored: Mapping[ModelKey, Scored], guard: Mapping[str, Any] | None
) -> list[Path]:
    """Write evaluation.json, and the predictions and confusion matrix of every model.

    Args:
        directory: an existing folder.
        examples: what the models were scored on.
        scored: the models, the one that others are compared with first.
        guard: the verdict on the first model, if there is one.

    Returns:
        Pictures that compare speeds, where there are any.
    """
    confusions = {
        key: Confusion.of(one.predicted.values, examples.labels, len(examples.label2id))
        for key, one in scored.items()
        if examples.task == "single_label"
    }
    details = {key: _details(key, one, examples, confusions.get(key)) for key, one in scored.items()}
    write_json(directory / "evaluation.json", _summary(examples, scored, details, guard))
    for key, one in scored.items():
        if key.speed is not None:  # the model with its own thresholds is enough to look at
            continue
        _write_predictions(directory / f"predictions_{key}.parquet", examples, one)
        if key in confusions:
            figure = confusion_figure(confusions[key], examples.names(), LIGHT, str(key))
            _save_png(figure, directory / f"confusion_{key}.png")
    return plot_speeds(directory, details.values(), METRICS[examples.task])


def _summary(
    examples: Examples,
    scored: Mapping[ModelKey, Scored],
    details: Mapping[ModelKey, dict[str, Any]],
    guard: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the content of evaluation.json, and print it if distillation hurt."""
    content: dict[str, Any] = {
        "split": examples.split,
        "rows": len(examples.texts),
        "task": examples.task,
        "labels": examples.names(),
        "models": {str(key): one for key, one in details.items()},
    }
    if guard is not None:
        content["guard"] = guard
    hurts = distillation_hurts({key: one.row for key, one in scored.items()}, main_metric(examples.task))
    if hurts is not None:
        content["distillation_hurts"] = hurts
    if hurts:
        print("distillation hurt: the student alone, without a teacher, is better", flush=True)
    return content


def _details(key: ModelKey, one: Scored, examples: Examples, confusion: Confusion | None) -> dict[str, Any]:
    details = {
        **key.fields(),
        "path": str(one.classifier.directory),
        **one.row,
        "per_class": per_class(examples.task, one.predicted.values, examples.labels, examples.names()),
    }
    if one.layers_N is not None:
        details["exit_layers"] = np.bincount(one.layers_N, minlength=one.classifier.num_layers + 1)[1:].tolist()
    return details | (confusion.fields(len(examples.label2id)) if confusion else {})


def plot_speeds(directory: Path, details: Iterable[dict[str, Any]], scores: tuple[str, ...]) -> list[Path]:
    """Draw speed_accuracy.png and exit_layers.png.

    Args:
        directory: an existing folder.
        details: of each model as in evaluation.json.
        scores: names of the scores, the one that is drawn first.

    Returns:
        The pictures; none where no model was measured at a speed.
    """
    details = list(details)
    models, at_speeds = group_rows(details)
    if not at_speeds:
        return []
    comparison = Comparison(models, at_speeds, scores)
    figures = {"exit_layers": exit_layers_figure(exit_histograms(comparison, details), LIGHT)}
    if panels := speed_tradeoffs(comparison):
        figures["speed_accuracy"] = tradeoff_figure(panels, score_title(comparison.metric), LIGHT)
    paths = [directory / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        _save_png(figure, path)
    return sorted(paths, reverse=True)


def _save_png(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _write_predictions(path: Path, examples: Examples, one: Scored) -> None:
    """Write a row for each example.

    Columns: text, (text_pair,) label, predicted, probability (of single labels, or lists for several labels), and
    exit_layer for a model with early exit.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    pairs = {} if examples.text_pairs is None else {"text_pair": examples.text_pairs}
    exits = {} if one.layers_N is None else {"exit_layer": one.layers_N}
    columns = {"text": examples.texts, **pairs, **_predicted(examples, one.predicted), **exits}
    pq.write_table(pa.table(columns), path)


def _predicted(examples: Examples, predicted: Predicted) -> dict[str, Any]:
    if examples.task == "regression":
        return {"label": examples.labels.reshape(-1), "predicted": predicted.values}
    names = np.array(examples.names(), dtype=object)
    if examples.task == "single_label":
        found = {"label": names[examples.labels], "predicted": names[predicted.values]}
    else:
        found = {
            "label": [list(names[row > 0]) for row in examples.labels],
            "predicted": [list(names[row > 0]) for row in predicted.values],
        }
    return found | {"probability": predicted.probabilities}
