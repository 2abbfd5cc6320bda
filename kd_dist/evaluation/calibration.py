"""Find when samples may exit early: thresholds that keep a promise on validation rows.

All branches classify every row once; what a choice of thresholds would give is then arithmetic.

Shapes: N rows, C classes, L layers, E layers with a branch (all but the last).
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_dist.config.sections.evaluation import Calibrate
from kd_dist.config.stages import CalibrateStage
from kd_dist.config.tasks import Task, main_metric
from kd_dist.data.examples import Examples, read_split
from kd_dist.data.labels import align_labels
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError
from kd_dist.evaluation.operations import Operations
from kd_dist.evaluation.scores import num_not_finite, refuse_not_finite, scores_of
from kd_dist.files import read_json, replaced_folder, write_json
from kd_dist.model_files.model_folders import read_manifest
from kd_dist.models.classifier import Classifier, by_length, load_classifier, load_preprocessing
from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.models.exit_rules import ExitRule, ExitTracker
from kd_dist.models.uncertainty import predicted_classes, uncertainty

BATCH_SIZE = 32

NUM_CANDIDATES = 200

ROUNDING = 1e-9  # a loss of exactly the budget is within it


@dataclass(frozen=True)
class BranchOutputs:
    """The predictions of every layer for every row.

    Args:
        task: of the labels.
        predicted: (L, N) classes in the order of the data's labels, or (L, N, C) which labels. The logits of all
            layers would be far larger.
        uncertainty_EN: of each branch, from 0 to 1.
        lengths_N: in tokens.
        labels: as `scores` takes them.
    """

    task: Task
    predicted: torch.Tensor
    uncertainty_EN: np.ndarray
    lengths_N: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class RuleOutcome:
    """The score and the cost of an exit rule.

    Args:
        rule: when rows exit.
        quality: the main metric.
        speedup: how many times fewer operations than all layers take.
        mean_layers: layers used on average.
    """

    rule: ExitRule
    quality: float
    speedup: float
    mean_layers: float


def run(stage: CalibrateStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/export, the model with its thresholds, and `stage_dir`/calibration.json.

    Args:
        stage: the model, the rows and what may be lost.
        stage_dir: the stage's folder in the run.
        shard: always 0, the stage is not divided.

    Raises:
        UserError: the model has no branches, or other labels than the data.
        RunError: no thresholds are as fast as asked.
    """
    source, tokens, settings = Path(stage.model.path), Path(stage.data.tokens), stage.calibrate
    classifier = load_classifier(source).at(speed=0.0)
    measure = {"uncertainty": settings.uncertainty, "top_k": settings.top_k}
    classifier.model.config.update(measure)
    examples = read_split(tokens, "validation")
    outputs = run_branches(classifier, examples, Preprocessing.load(tokens))
    rules = candidate_rules(outputs, classifier.model.exit_rule(0.0), settings)
    outcomes = simulate(outputs, Operations.of(classifier), rules)
    chosen = choose(outcomes, settings)
    promise = {"rows": len(examples.texts), "metric": main_metric(examples.task), "chosen": asdict(chosen)}
    _export(source, stage_dir, measure, chosen.rule, promise)
    write_json(stage_dir / "calibration.json", promise | {"outcomes": [asdict(outcome) for outcome in outcomes]})
    print(
        f"{stage_dir.name}: {_describe(chosen.rule)}: {promise['metric']} {chosen.quality:.4f} (all layers: "
        f"{outcomes[0].quality:.4f}), {chosen.speedup:.2f}x fewer operations, {chosen.mean_layers:.2f} of "
        f"{classifier.num_layers} layers, on {promise['rows']:,} validation rows",
        flush=True,
    )


def _export(source: Path, stage_dir: Path, measure: dict[str, Any], rule: ExitRule, promise: dict[str, Any]) -> None:
    """Copy a model, and put the rule into its configuration and the promise into its manifest."""
    config = read_json(source / "config.json") | measure
    config |= {"thresholds": list(rule.thresholds), "patience": rule.patience}
    manifest = read_manifest(source) | {"stage": stage_dir.name, "calibration": promise}
    with replaced_folder(stage_dir / "export") as (_, directory):
        shutil.copytree(source, directory, dirs_exist_ok=True)
        write_json(directory / "config.json", config)
        write_json(directory / "manifest.json", manifest)


def _describe(rule: ExitRule) -> str:
    if rule.patience is not None:
        return f"exit when {rule.patience} layers in a row agree"
    shown = ", ".join(f"{threshold:.3g}" for threshold in dict.fromkeys(rule.thresholds))
    return f"exit when the {rule.measure.replace('_', ' ')} is below {shown}"


@torch.inference_mode()
def run_branches(classifier: Classifier, examples: Examples, default: Preprocessing) -> BranchOutputs:
    """Classify every row by every layer.

    Args:
        classifier: a model with branches.
        examples: texts and labels.
        default: how a model that does not say reads texts.

    Raises:
        UserError: the model has other labels than the examples.
    """
    model: FastBertForSequenceClassification = classifier.model
    columns = align_labels(classifier.label2id, examples.label2id)
    rows, _ = classifier.encode(load_preprocessing(classifier, default), examples.texts, examples.text_pairs)
    config, batches, predicted, uncertainties = model.config, list(by_length(rows, BATCH_SIZE)), [], []
    for numbers in batches:
        logits_LBC = model.all_logits(classifier.batch([rows[number] for number in numbers]))[:, :, columns].cpu()
        for logits_BC in logits_LBC:
            refuse_not_finite(num_not_finite(logits_BC.numpy()), len(numbers))
        predicted.append(torch.stack([predicted_classes(logits_BC, model.task) for logits_BC in logits_LBC]))
        measured = [uncertainty(one_BC, model.task, config.uncertainty, config.top_k) for one_BC in logits_LBC[:-1]]
        uncertainties.append(torch.stack(measured))
    places = torch.from_numpy(np.argsort(np.concatenate(batches)))
    return BranchOutputs(
        examples.task,
        torch.cat(predicted, dim=1)[:, places],
        torch.cat(uncertainties, dim=1)[:, places].numpy(),
        np.array([len(row.input_ids) for row in rows]),
        examples.labels,
    )


def candidate_rules(outputs: BranchOutputs, no_exits: ExitRule, settings: Calibrate) -> list[ExitRule]:
    """Return the rules to choose from, the slowest first.

    Args:
        outputs: predictions and uncertainties of every layer.
        no_exits: the rule by which no row exits early; it is the first candidate.
        settings: whether to look for a patience, for one threshold or for one a layer.
    """
    num_branches = len(outputs.uncertainty_EN)
    if settings.patience is not None:
        return [no_exits, replace(no_exits, patience=settings.patience)]
    if settings.per_layer:
        shares = np.linspace(1, 0.5, NUM_CANDIDATES)
        found = [trusted_thresholds(outputs, float(share)) for share in shares]
    else:
        # Evenly among the observed ones, so that each candidate lets about as many more rows exit.
        between = _halfway_to_the_next(np.unique(outputs.uncertainty_EN))
        chosen = np.unique(between[np.linspace(0, len(between) - 1, NUM_CANDIDATES).astype(int)])
        found = [(float(threshold),) * num_branches for threshold in chosen]
    first_layer = (1.0,) * num_branches
    return [no_exits, *(replace(no_exits, thresholds=thresholds) for thresholds in [*found, first_layer])]


def trusted_thresholds(outputs: BranchOutputs, trust: float) -> tuple[float, ...]:
    """Return for each branch the largest threshold below which a share `trust` of rows agrees with the last layer.

    Labels are not looked at: it is the model's prediction that is to stay the same.
    """
    *early, last = outputs.predicted
    return tuple(
        _trusted_threshold(uncertainty_N, (predicted == last).reshape(len(last), -1).all(dim=1).numpy(), trust)
        for uncertainty_N, predicted in zip(outputs.uncertainty_EN, early, strict=True)
    )


def _trusted_threshold(uncertainty_N: np.ndarray, agrees_N: np.ndarray, trust: float) -> float:
    order = np.argsort(uncertainty_N, kind="stable")
    agreeing_N = np.cumsum(agrees_N[order]) / np.arange(1, len(order) + 1)
    between_N = _halfway_to_the_next(uncertainty_N[order])
    enough = np.flatnonzero((agreeing_N >= trust) & (uncertainty_N[order] < between_N))
    return float(between_N[enough[-1]]) if len(enough) else 0.0


def _halfway_to_the_next(sorted_N: np.ndarray) -> np.ndarray:
    """Return thresholds between uncertainties, the last one before 1: in another batch they round differently."""
    return (sorted_N + np.append(sorted_N[1:], 1.0)).clip(0, 2) / 2


def simulate(outputs: BranchOutputs, operations: Operations, rules: Sequence[ExitRule]) -> list[RuleOutcome]:
    """Compute what each rule gives; operations are compared with those of the first."""
    metric, rows = main_metric(outputs.task), np.arange(len(outputs.lengths_N))
    predicted = outputs.predicted.numpy()
    outcomes: list[RuleOutcome] = []
    full = None
    for rule in rules:
        layers_N = exit_layers(outputs, rule)
        cost = operations.per_row(outputs.lengths_N, layers_N, rule).mean()
        full = full or cost
        quality = scores_of(outputs.task, predicted[layers_N - 1, rows], outputs.labels)[metric]
        outcomes.append(RuleOutcome(rule, quality, float(full / cost), float(layers_N.mean())))
    return outcomes


def exit_layers(outputs: BranchOutputs, rule: ExitRule) -> np.ndarray:
    """Return (N) the layer, from 1, at which each row exits."""
    num_rows = len(outputs.lengths_N)
    tracker, numbers_N = ExitTracker(rule, num_rows), torch.arange(num_rows)
    layers_N = np.full(num_rows, len(outputs.predicted))
    for layer, uncertainty_N in enumerate(outputs.uncertainty_EN, start=1):
        exits = tracker.exits(layer, numbers_N, torch.from_numpy(uncertainty_N), outputs.predicted[layer - 1])
        layers_N[exits.numpy() & (layers_N > layer)] = layer
    return layers_N


def choose(outcomes: Sequence[RuleOutcome], settings: Calibrate) -> RuleOutcome:
    """Return the fastest rule within the budget, or the best one that is as fast as asked.

    Args:
        outcomes: of all rules; the first is that without early exit.
        settings: the budget, or the speed-up that is asked for.

    Raises:
        RunError: none is as fast as asked.
    """
    if settings.patience is not None:
        return outcomes[-1]
    if settings.target_speedup is None:
        floor = outcomes[0].quality - settings.quality_budget - ROUNDING
        return max((one for one in outcomes if one.quality >= floor), key=lambda one: one.speedup)
    fast = [one for one in outcomes if one.speedup >= settings.target_speedup]
    if not fast:
        most = max(one.speedup for one in outcomes)
        raise RunError(
            f"calibrate.target_speedup={settings.target_speedup:g} cannot be reached: exiting as early as possible "
            f"saves {most:.2f}x of the operations on the validation rows; ask for less, or use a narrower branch"
        )
    return max(fast, key=lambda one: (one.quality, one.speedup))
