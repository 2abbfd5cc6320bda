"""Measure how fast classifiers are; they take turns, so that whatever else the machine does slows all of them alike.

Texts are tokenized beforehand; time ends when the logits are in the memory of the CPU.
Shapes: M models, R rounds, P pieces of work.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kd_dist.data.preprocessing import Encoding
from kd_dist.models.classifier import Classifier, by_length

BATCH_SIZE = 32

LATENCY_ROWS = 64

THROUGHPUT_ROWS = 512

ROUNDS = 5

TEXTS_PER_TURN = 8

Batches = list[dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Times:
    """Latency of one text at a time (median and 95th percentile), and throughput in batches of 32 of similar length."""

    latency_ms: float
    latency_p95_ms: float
    samples_per_second: float
    device: str


def time_in_turn(classifiers: Sequence[Classifier], encodings: Sequence[list[Encoding]]) -> list[Times]:
    """Time each model on its own tokens of the same rows.

    Args:
        classifiers: the models.
        encodings: for each model the tokens of all rows, of which a random part is timed.
    """
    models = list(zip(classifiers, encodings, strict=True))
    latency_MRP = 1000 * _timed(classifiers, [[[one] for one in _batches(*model, LATENCY_ROWS, 1)] for model in models])
    seconds_MR = _timed(classifiers, [[_batches(*model, THROUGHPUT_ROWS, BATCH_SIZE)] for model in models])[:, :, 0]
    num_rows = len(some_rows(len(encodings[0]), THROUGHPUT_ROWS))
    return [
        Times(
            latency_ms=float(np.median(latency_RP)),
            latency_p95_ms=float(np.percentile(latency_RP, 95)),
            samples_per_second=num_rows / float(np.median(seconds_R)),
            device=_device_name(classifier),
        )
        for classifier, latency_RP, seconds_R in zip(classifiers, latency_MRP, seconds_MR, strict=True)
    ]


def some_rows(num_rows: int, max_rows: int) -> np.ndarray:
    """Return the numbers of at most `max_rows` random rows, the same in every call."""
    return np.random.default_rng(0).choice(num_rows, min(num_rows, max_rows), replace=False)


def _batches(classifier: Classifier, encodings: list[Encoding], max_rows: int, batch_size: int) -> Batches:
    rows = [encodings[number] for number in some_rows(len(encodings), max_rows)]
    return [classifier.batch([rows[number] for number in numbers]) for numbers in by_length(rows, batch_size)]


def _timed(classifiers: Sequence[Classifier], work: Sequence[list[Batches]]) -> np.ndarray:
    """Return the (M, R, P) seconds of each model's pieces of work, in every round but the first, which warms up.

    A turn is a few texts and not one, or a small model would always find its weights evicted from the cache.
    """
    seconds: list[list[float]] = [[] for _ in classifiers]
    num_pieces = len(work[0])
    for _ in range(1 + ROUNDS):
        for start in range(0, num_pieces, TEXTS_PER_TURN):
            for index, classifier in enumerate(classifiers):
                turn = work[index][start : start + TEXTS_PER_TURN]
                seconds[index] += [_seconds(classifier, batches) for batches in turn]
    return np.array(seconds).reshape(len(classifiers), 1 + ROUNDS, num_pieces)[:, 1:]


def _seconds(classifier: Classifier, batches: Batches) -> float:
    started = time.perf_counter()
    classifier.run(batches)  # waits for the GPU
    return time.perf_counter() - started


def _device_name(classifier: Classifier) -> str:
    if classifier.model.device.type == "cuda":
        return torch.cuda.get_device_name(classifier.model.device)
    return f"CPU, {torch.get_num_threads()} threads"
