"""When samples may leave a model with early exit: thresholds that keep a promise on validation rows.

All branches answer every row once; what a choice of thresholds would give is then arithmetic.

Shapes: N rows, C classes, L layers, E layers with a branch (all but the last).
"""

import functools
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
from kd_dist.evaluation.scores import scores
from kd_dist.files import read_json, replaced_folder, write_json
from kd_dist.models.classifier import Classifier, by_length, load_classifier, load_preprocessing, read_manifest
from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.models.exit_rules import ExitRule, Leaving
from kd_dist.models.uncertainty import decided, uncertainty

BATCH_SIZE = 32

CHOICES = 200

ROUNDING = 1e-9  # losing just what may be lost is allowed


@dataclass(frozen=True)
class Observed:
    """What every layer says of every row: (L, N, C) logits in the data's order of labels, and (E, N) uncertainties."""

    task: Task
    logits_LNC: np.ndarray
    doubt_EN: np.ndarray
    lengths_N: np.ndarray
    labels: np.ndarray

    @functools.cached_property
    def decisions(self) -> torch.Tensor:
        """(L, N) classes, or (L, N, C) which labels."""
        return torch.stack([decided(torch.from_numpy(logits_NC), self.task) for logits_NC in self.logits_LNC])


@dataclass(frozen=True)
class Outcome:
    """What a rule would give: quality by the main metric, operations saved as a factor, layers used on the mean."""

    rule: ExitRule
    quality: float
    speedup: float
    mean_layers: float


def run(stage: CalibrateStage, stage_dir: Path, shard: int) -> None:
    """The calibrate stage: `stage_dir`/export, the model with its thresholds, and `stage_dir`/calibration.json.

    Raises:
        UserError: the model has no branches, or other labels than the data.
        RunError: no thresholds are as fast as asked.
    """
    source, tokens, settings = Path(stage.model.path), Path(stage.data.tokens), stage.calibrate
    classifier = load_classifier(source).at(speed=0.0)
    classifier.model.config.update({"uncertainty": settings.uncertainty, "top_k": settings.top_k})
    examples = read_split(tokens, "validation")
    observed = observe(classifier, examples, Preprocessing.load(tokens))
    outcomes = weigh(
        observed, Operations.of(classifier), candidates(observed, classifier.model.exit_rule(0.0), settings)
    )
    chosen = choose(outcomes, settings)
    found = {"thresholds": list(chosen.rule.thresholds), "patience": chosen.rule.patience}
    with replaced_folder(stage_dir / "export") as (_, directory):
        shutil.copytree(source, directory, dirs_exist_ok=True)
        config = read_json(directory / "config.json")
        config |= {"uncertainty": settings.uncertainty, "top_k": settings.top_k, **found}
        write_json(directory / "config.json", config)
        calibration = {"stage": stage_dir.name, "calibration": _promise(examples, chosen)}
        write_json(directory / "manifest.json", read_manifest(source) | calibration)
    weighed = {"outcomes": [asdict(one) for one in outcomes]}
    write_json(stage_dir / "calibration.json", _promise(examples, chosen) | weighed)
    print(
        f"{stage_dir.name}: {_in_words(chosen.rule)}: {main_metric(examples.task)} {chosen.quality:.4f} (all layers: "
        f"{outcomes[0].quality:.4f}), {chosen.speedup:.2f}x fewer operations, {chosen.mean_layers:.2f} of "
        f"{classifier.num_layers} layers, on {len(examples.texts):,} validation rows",
        flush=True,
    )


def _in_words(rule: ExitRule) -> str:
    if rule.patience is not None:
        return f"leave when {rule.patience} layers in a row agree"
    shown = ", ".join(f"{threshold:.3g}" for threshold in dict.fromkeys(rule.thresholds))
    return f"leave when the {rule.measure.replace('_', ' ')} is below {shown}"


def _promise(examples: Examples, chosen: Outcome) -> dict[str, Any]:
    return {"rows": len(examples.texts), "metric": main_metric(examples.task), "chosen": asdict(chosen)}


@torch.inference_mode()
def observe(classifier: Classifier, examples: Examples, default: Preprocessing) -> Observed:
    """Ask every branch about every row.

    Raises:
        UserError: the model has other labels than the examples.
    """
    model: FastBertForSequenceClassification = classifier.model
    columns = align_labels(classifier.label2id, examples.label2id)
    rows, _ = classifier.encode(load_preprocessing(classifier, default), examples.texts, examples.text_pairs)
    logits_LNC = np.empty((classifier.num_layers, len(rows), len(columns)), dtype=np.float32)
    for numbers in by_length(rows, BATCH_SIZE):
        logits_LBC = model.all_logits(classifier.batch([rows[number] for number in numbers]))
        logits_LNC[:, numbers] = logits_LBC[:, :, columns].cpu().numpy()
    config = model.config
    doubt = [
        uncertainty(torch.from_numpy(logits_NC), model.task, config.uncertainty, config.top_k).numpy()
        for logits_NC in logits_LNC[:-1]
    ]
    lengths_N = np.array([len(row.input_ids) for row in rows])
    return Observed(examples.task, logits_LNC, np.stack(doubt), lengths_N, examples.labels)


def candidates(observed: Observed, never: ExitRule, settings: Calibrate) -> list[ExitRule]:
    """The rules to choose from; the first is `never`, by which nothing leaves early."""
    at_once = replace(never, thresholds=(1.0,) * len(observed.doubt_EN))
    if settings.patience is not None:
        return [never, replace(never, patience=settings.patience)]
    if settings.per_layer:
        shares = np.linspace(1, 0.5, CHOICES)
        trusted = [replace(never, thresholds=trusted_thresholds(observed, float(share))) for share in shares]
        return [never, *trusted, at_once]
    # Evenly among the observed ones, so that each choice lets about as many more leave.
    between = _halfway_to_the_next(np.unique(observed.doubt_EN))
    found = np.unique(between[np.linspace(0, len(between) - 1, CHOICES).astype(int)])
    common = [replace(never, thresholds=(float(threshold),) * len(observed.doubt_EN)) for threshold in found]
    return [never, *common, at_once]


def trusted_thresholds(observed: Observed, trust: float) -> tuple[float, ...]:
    """For each layer, the largest threshold below which a share `trust` of the rows agrees with the last layer.

    Labels are not looked at: what is to stay the same is the model's answer.
    """
    *early, last = observed.decisions
    return tuple(
        _trusted_threshold(doubt_N, (decisions == last).reshape(len(last), -1).all(dim=1).numpy(), trust)
        for doubt_N, decisions in zip(observed.doubt_EN, early, strict=True)
    )


def _trusted_threshold(doubt_N: np.ndarray, agrees_N: np.ndarray, trust: float) -> float:
    order = np.argsort(doubt_N, kind="stable")
    agreeing_N = np.cumsum(agrees_N[order]) / np.arange(1, len(order) + 1)
    between_N = _halfway_to_the_next(doubt_N[order])
    enough = np.flatnonzero((agreeing_N >= trust) & (doubt_N[order] < between_N))
    return float(between_N[enough[-1]]) if len(enough) else 0.0


def _halfway_to_the_next(sorted_N: np.ndarray) -> np.ndarray:
    """Thresholds between uncertainties, after which comes 1: in a batch of other rows they are rounded otherwise."""
    return (sorted_N + np.append(sorted_N[1:], 1.0)).clip(0, 2) / 2


def weigh(observed: Observed, operations: Operations, rules: Sequence[ExitRule]) -> list[Outcome]:
    """What each rule would give; operations are compared with those of the first."""
    metric, rows = main_metric(observed.task), np.arange(len(observed.lengths_N))
    outcomes: list[Outcome] = []
    full = None
    for rule in rules:
        layers_N = exit_layers(observed, rule)
        cost = operations.per_row(observed.lengths_N, layers_N, rule).mean()
        full = full or cost
        quality = scores(observed.task, observed.logits_LNC[layers_N - 1, rows], observed.labels)[metric]
        outcomes.append(Outcome(rule, quality, float(full / cost), float(layers_N.mean())))
    return outcomes


def exit_layers(observed: Observed, rule: ExitRule) -> np.ndarray:
    """(N) the layer at which each row would leave."""
    decisions, num_rows = observed.decisions, len(observed.lengths_N)
    leaving, numbers_N = Leaving(rule, num_rows), torch.arange(num_rows)
    layers_N = np.full(num_rows, len(observed.logits_LNC))
    for layer, doubt_N in enumerate(observed.doubt_EN, start=1):
        leaves_N = leaving.after(layer, numbers_N, torch.from_numpy(doubt_N), decisions[layer - 1]).numpy()
        layers_N[leaves_N & (layers_N > layer)] = layer
    return layers_N


def choose(outcomes: Sequence[Outcome], settings: Calibrate) -> Outcome:
    """The fastest rule within the budget, or the best one that is as fast as asked.

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
            f"calibrate.target_speedup={settings.target_speedup:g} cannot be reached: leaving as early as can be saves "
            f"{most:.2f}x of the operations on the validation rows; ask for less, or use a narrower branch"
        )
    return max(fast, key=lambda one: (one.quality, one.speedup))
