"""What early exit saves of time, as a share of what it saves of operations: one text at a time, and in batches.

    python benchmarks/exit_speed.py --model TEACHER --tokens TOKENS --output exits.json

The model gets branches with random weights; thresholds let the same share of the rows exit at every layer. All layers,
as the plain classifier runs them, and early exit take turns (A B A B ...).

Shapes: L layers, N rows, C classes.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import describe_machine, in_turn, positive, ratio_of, write_result
from kd_dist.data.examples import read_split
from kd_dist.data.preprocessing import Encoding, Preprocessing
from kd_dist.errors import exit_with_message
from kd_dist.evaluation.operations import Operations
from kd_dist.models.classifier import Classifier, by_length, load_classifier
from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.models.exit_rules import ExitRule
from kd_dist.models.uncertainty import uncertainty

BATCH_SIZES = (1, 32)

SPREAD = 2.0  # standard deviation of the logits of a branch

Batches = list[dict[str, torch.Tensor]]


@torch.no_grad()
def with_branches(classifier: Classifier, batches: Batches) -> Classifier:
    """Return the classifier with a random branch after every layer but the last, some rows more certain than others."""
    torch.manual_seed(42)
    model = FastBertForSequenceClassification.from_classifier(classifier.model).eval()
    logits_LNC = torch.cat([model.all_logits(batch) for batch in batches], dim=1)
    for branch, logits_NC in zip(model.branches, logits_LNC, strict=False):  # the last layer has none
        scale_C = SPREAD / logits_NC.std(0)
        branch.classifier.weight.mul_(scale_C[:, None])
        branch.classifier.bias.sub_(logits_NC.mean(0)).mul_(scale_C)
    return replace(classifier, model=model, exit_rule=model.exit_rule(speed=0.0))


@torch.no_grad()
def even_rule(classifier: Classifier, batches: Batches) -> ExitRule:
    """Return the rule by which the same share of these rows exits at every layer."""
    logits_LNC = torch.cat([classifier.model.all_logits(batch) for batch in batches], dim=1)
    measures_LN = [uncertainty(logits_NC, classifier.task, "entropy", 5).numpy() for logits_NC in logits_LNC[:-1]]
    left_N, thresholds = np.ones(logits_LNC.shape[1], dtype=bool), []
    for layer, measure_N in enumerate(measures_LN):
        thresholds.append(float(np.quantile(measure_N[left_N], 1 / (len(logits_LNC) - layer))))
        left_N &= measure_N >= thresholds[-1]
    return ExitRule(tuple(thresholds), "entropy", 5)


def measure(classifier: Classifier, rows: list[Encoding], rounds: int) -> dict[str, Any]:
    """Return the speed-up in operations and in time for each batch size."""
    grouped = [classifier.batch([rows[number] for number in numbers]) for numbers in by_length(rows, max(BATCH_SIZES))]
    model = with_branches(classifier, grouped)
    rule = even_rule(model, grouped)
    exiting = replace(model, exit_rule=rule)
    lengths_N, operations = np.array([len(row.input_ids) for row in rows]), Operations.of(model)
    found = {}
    for size in BATCH_SIZES:
        numbers = list(by_length(rows, size))
        batches = [classifier.batch([rows[number] for number in group]) for group in numbers]
        pieces = [[batch] for batch in batches] if size == 1 else [batches]
        layers_N = np.array([layer for piece in pieces for layer in exits_of(exiting, piece)])
        fewer = _operations(operations, lengths_N[np.concatenate(numbers)], layers_N, rule)
        forms = {name: partial(run_all, one, pieces) for name, one in (("all layers", classifier), ("exits", exiting))}
        seconds = in_turn(forms, rounds)
        faster = ratio_of(seconds, "all layers", "exits")
        found[str(size)] = {
            "fewer_operations": fewer, "faster": faster, "share": faster / fewer, "seconds": seconds,
            "mean_layer": float(layers_N.mean()),
        }  # fmt: skip
    return found


def _operations(operations: Operations, lengths_N: np.ndarray, layers_N: np.ndarray, rule: ExitRule) -> float:
    """Return how many times more operations all layers take than the layers up to the exits."""
    all_N = np.full_like(layers_N, operations.num_layers)
    none = ExitRule((0.0,) * (operations.num_layers - 1), rule.measure, rule.top_k)
    return operations.per_row(lengths_N, all_N, none).sum() / operations.per_row(lengths_N, layers_N, rule).sum()


def exits_of(classifier: Classifier, batches: Batches) -> list[int]:
    """Return the layer at which each row exits."""
    layers_N = classifier.run(batches).layers_N
    assert layers_N is not None
    return layers_N.tolist()


def run_all(classifier: Classifier, pieces: list[Batches]) -> None:
    """Classify one piece of work after another."""
    for batches in pieces:
        classifier.run(batches)


def show(result: dict[str, Any]) -> None:
    table = Table("batch", "mean layer", "fewer operations", "faster", "share", title=f"{result['rows']} rows")
    for size, one in result["sizes"].items():
        cells = (f"{one[key]:.2f}" for key in ("mean_layer", "fewer_operations", "faster", "share"))
        table.add_row(size, *cells)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times early exit against all layers, beside the operations it saves.")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a trained classifier")
    parser.add_argument("--tokens", type=Path, required=True, metavar="DIR", help="labelled rows, prepared")
    parser.add_argument("--rows", type=positive, default=256, metavar="N", help="validation rows (default: 256)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="timed rounds (default: 5)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    classifier = load_classifier(options.model)
    texts = read_split(options.tokens, "validation").texts[: options.rows]
    rows, _ = classifier.encode(Preprocessing.load(options.tokens), texts, None)
    sizes = measure(classifier, rows, options.rounds)
    result = {"machine": describe_machine(), "rows": len(rows), "sizes": sizes}
    show(result)
    write_result(result, options.output)


if __name__ == "__main__":
    exit_with_message(main)
