"""Score classifiers side by side: quality, size and speed.

Shapes: N rows, C classes (1 for regression).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from kd_dist.config.tasks import Task, main_metric
from kd_dist.data.examples import Examples
from kd_dist.data.labels import align_labels
from kd_dist.data.preprocessing import Encoding, Preprocessing
from kd_dist.errors import UserError
from kd_dist.evaluation.model_key import ModelKey
from kd_dist.evaluation.operations import Operations
from kd_dist.evaluation.scores import Predicted, check_fit, num_not_finite, refuse_not_finite, scores_of
from kd_dist.evaluation.timing import BATCH_SIZE, THROUGHPUT_ROWS, some_rows, time_in_turn
from kd_dist.models.classifier import Classifier, load_preprocessing, predict
from kd_dist.models.students import num_parameters

MOST_LOGITS = 1 << 22  # that are in memory, in fp32: those of all rows and thousands of classes are gigabytes


@dataclass(frozen=True)
class Scored:
    """A classifier and what it predicted for the examples.

    Args:
        classifier: the model, with the rule that its rows exited by.
        encodings: tokens of each example.
        predicted: in the order of the examples' labels.
        layers_N: the layer, from 1, at which each row exited; None for a model without early exit.
        row: its result row, without the fields of its key.
    """

    classifier: Classifier
    encodings: list[Encoding]
    predicted: Predicted
    layers_N: np.ndarray | None
    row: dict[str, Any]


def at_speeds(classifiers: Mapping[ModelKey, Classifier], speeds: Sequence[float]) -> dict[ModelKey, Classifier]:
    """Return the models as they are and, after each model with branches, the same model at every speed.

    Where the first of them has branches, its backbone goes before it as `all layers`, for all to be compared with.
    """
    first = next(iter(classifiers.values()))
    found: dict[ModelKey, Classifier] = {}
    if first.exit_rule is not None:
        found[ModelKey("all layers")] = replace(first, model=first.model.backbone, exit_rule=None)
    for key, classifier in classifiers.items():
        found[key] = classifier
        if classifier.exit_rule is not None:
            found |= {replace(key, speed=speed): classifier.at(speed) for speed in speeds}
    return found


def own_preprocessings(
    classifiers: Mapping[ModelKey, Classifier], default: Preprocessing
) -> dict[ModelKey, Preprocessing]:
    """Return how each classifier was trained to read texts; the default for one that does not say."""
    return {key: load_preprocessing(classifier, default) for key, classifier in classifiers.items()}


def of_teacher(
    classifiers: Mapping[ModelKey, Classifier], own: Mapping[ModelKey, Preprocessing], prepared: Preprocessing
) -> dict[ModelKey, Preprocessing]:
    """Let the first model read texts as they were prepared, since these are the tokens that distillation feeds it.

    Args:
        classifiers: the models, the teacher first.
        own: how each was trained to read texts.
        prepared: how the rows of this run were tokenized.

    Returns:
        `prepared`, for every entry that is the teacher's model.

    Raises:
        UserError: it was trained on tokens of another kind, not merely on longer or shorter rows.
    """
    first = next(iter(classifiers))
    directory = classifiers[first].directory
    if differences := _differences(own[first], prepared):
        raise UserError(
            f"the teacher {directory} was trained on other tokens than this run feeds it: {'; '.join(differences)}; or "
            "train the teacher again with this run's data settings"
        )
    return {key: prepared for key, classifier in classifiers.items() if classifier.directory == directory}


def _differences(own: Preprocessing, prepared: Preprocessing) -> list[str]:
    """Describe each difference, with the setting under which the rows would be as the model knows them."""
    settings = [
        f"data.segment={own.segment}",
        f"data.hint_words={'FILE, of its words' if own.hint_words else 'none'}",
        f"data.columns={'label,text,text_pair' if own.pairs else 'label,text'}",
    ]
    compared = zip(_described(own), _described(prepared), settings, strict=True)
    return [
        f"{known:.120} in its training, {found:.120} in the rows of this run (set {setting})"
        for known, found, setting in compared
        if known != found
    ]


def _described(preprocessing: Preprocessing) -> list[str]:
    hint_words = [f"{category}: {' '.join(words)}" for category, words in preprocessing.hint_words.items()]
    return [
        f"segment {preprocessing.segment}",
        f"hint words {'; '.join(hint_words) or 'none'}",
        "pairs" if preprocessing.pairs else "single texts",
    ]


def score_all(
    classifiers: Mapping[ModelKey, Classifier],
    preprocessings: Mapping[ModelKey, Preprocessing],
    examples: Examples,
    *,
    speed: bool,
) -> dict[ModelKey, Scored]:
    """Score every classifier on its tokens of the same texts.

    Args:
        classifiers: the models; all are compared with the first.
        preprocessings: how each reads texts.
        examples: texts and labels.
        speed: measure latency, throughput and operations as well, the models in turn.

    Raises:
        UserError: a classifier has other labels than the examples.
    """
    scored = {key: _score(key, one, examples, preprocessings[key]) for key, one in classifiers.items()}
    if speed:
        for one, measured in zip(scored.values(), measure_speed(list(scored.values())), strict=True):
            one.row.update(measured)
    first = next(iter(scored.values())).row
    for one in scored.values():
        one.row.update(_ratios(one.row, first, main_metric(examples.task)))
    return scored


def _score(key: ModelKey, classifier: Classifier, examples: Examples, preprocessing: Preprocessing) -> Scored:
    columns = _columns(key, classifier, examples)
    check_fit(examples.task, (len(examples.texts), len(columns)), examples.labels)
    encodings, num_cut = classifier.encode(preprocessing, examples.texts, examples.text_pairs)
    predicted, layers_N = _predict(classifier, encodings, columns, examples.task)
    row = {
        "split": examples.split,
        "rows": len(encodings),
        **scores_of(examples.task, predicted.values, examples.labels),
        "rows_cut": num_cut,
        "parameters": num_parameters(classifier.model),
        "size_mb": size_mb(classifier.directory),
        **({} if layers_N is None else {"mean_layers": float(layers_N.mean())}),
    }
    return Scored(classifier, encodings, predicted, layers_N, row)


def _predict(
    classifier: Classifier, encodings: Sequence[Encoding], columns: list[int], task: Task
) -> tuple[Predicted, np.ndarray | None]:
    """Return the predictions in the order of the data's labels and the layers of exits, without keeping all logits."""
    num_rows = max(BATCH_SIZE, MOST_LOGITS // len(columns))
    parts, layers, num_bad = [], [], 0
    for start in range(0, len(encodings), num_rows):
        output = predict(classifier, encodings[start : start + num_rows], BATCH_SIZE)
        logits_BC = output.logits_NC.numpy()[:, columns]
        num_bad += num_not_finite(logits_BC)
        parts.append(Predicted.of(task, logits_BC))
        layers += [] if output.layers_N is None else [output.layers_N.numpy()]
    refuse_not_finite(num_bad, len(encodings))
    probabilities = [one for part in parts for one in part.probabilities]
    predicted = Predicted(np.concatenate([part.values for part in parts]), probabilities)
    return predicted, np.concatenate(layers) if layers else None


def _columns(key: ModelKey, classifier: Classifier, examples: Examples) -> list[int]:
    if examples.task == "regression":
        return list(range(len(classifier.labels)))
    try:
        return align_labels(classifier.label2id, examples.label2id)
    except UserError as error:
        raise UserError(f"{key} ({classifier.directory}): {error}") from error


def size_mb(directory: Path) -> float:
    """Return the megabytes (10^6) of the weights on disk."""
    files = list(directory.glob("*.safetensors")) or list(directory.glob("*.bin"))
    return sum(file.stat().st_size for file in files) / 1e6


def _ratios(row: Mapping[str, Any], first: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Return how many times better than the first model one is, and the share of its quality that is kept.

    A ratio to a value of 0 is left out.
    """
    ratios = {"quality_kept": (row[metric], first[metric])}
    if "latency_ms" in row:
        ratios["operations_ratio"] = first["operations_per_sample"], row["operations_per_sample"]
        ratios["latency_ratio"] = first["latency_ms"], row["latency_ms"]
        ratios["throughput_ratio"] = row["samples_per_second"], first["samples_per_second"]
        saved = first["timed_operations_per_sample"] / row["timed_operations_per_sample"]
        ratios["speedup_realised"] = row["samples_per_second"], first["samples_per_second"] * saved
    return {name: upper / lower for name, (upper, lower) in ratios.items() if lower}


def distillation_hurts(rows: Mapping[ModelKey, Mapping[str, Any]], metric: str) -> bool | None:
    """Return whether `student` is worse than `student_alone`, by the mean over seeds; None unless both are there."""
    by_model: dict[str, list[float]] = defaultdict(list)
    for key, row in rows.items():
        if key.speed is None:
            by_model[key.model].append(row[metric])
    if not {"student", "student_alone"} <= set(by_model):
        return None
    return fmean(by_model["student"]) < fmean(by_model["student_alone"])


def measure_speed(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Measure operations, latency (one text at a time) and throughput (batches of 32 texts of similar length).

    Operations are multiply-accumulates, the mean over all rows: `operations_per_sample` of the tokens there are,
    `operations_padded` of rows padded to the longest of all, as published figures count them.
    `timed_operations_per_sample` is the mean over the rows whose throughput is measured.

    Args:
        scored: models on the same rows.

    Returns:
        The columns of each model's result row.
    """
    timed_rows = some_rows(len(scored[0].encodings), THROUGHPUT_ROWS)
    times = time_in_turn([one.classifier for one in scored], [one.encodings for one in scored])
    parts = {one.classifier.model: one.classifier for one in scored}  # at each speed it is the same model
    operations = {model: Operations.of(classifier) for model, classifier in parts.items()}
    return [
        _operations(one, operations[one.classifier.model], timed_rows) | asdict(time)
        for one, time in zip(scored, times, strict=True)
    ]


def _operations(one: Scored, operations: Operations, timed_rows: np.ndarray) -> dict[str, Any]:
    lengths_N, rule = np.array([len(row.input_ids) for row in one.encodings]), one.classifier.exit_rule
    per_row_N = operations.per_row(lengths_N, one.layers_N, rule)
    padded_N = operations.per_row(np.full_like(lengths_N, lengths_N.max()), one.layers_N, rule)
    means = {
        "operations_per_sample": per_row_N,
        "operations_padded": padded_N,
        "timed_operations_per_sample": per_row_N[timed_rows],
    }
    return {name: round(float(values.mean())) for name, values in means.items()}
