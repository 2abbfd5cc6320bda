"""Measure what steps of training take on this machine: `python -m kd_dist.training.step_times RUN_DIR FILE BEGUN`.

The run is a small one, of the stages that training needs. Each of them runs for real; then the micro-batches of a
training stage are timed with rows of several lengths, and so is the teacher's forward pass. FILE gets what was found;
BEGUN is when this process was started, in seconds since 1970.

Shapes: B batch, S sequence.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd_dist.config.stages import CorpusStage, LabelledStage, TeacherOutputsStage, TrainStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import exit_with_message
from kd_dist.files import write_json
from kd_dist.models.device import memory_gb, own_device
from kd_dist.models.teacher import Batch, Teacher, Wanted
from kd_dist.runs import machine
from kd_dist.runs.layout import read_job, read_stage
from kd_dist.runs.stage_runner import run_stage
from kd_dist.training import distributed, engine
from kd_dist.training.batches import PreparedBatch
from kd_dist.training.forward import Forward
from kd_dist.training.meters import Stopwatch
from kd_dist.training.stage import build_engine, load

SHARES = (1 / 8, 3 / 8, 1)  # of the longest row: lengths that are timed

SHORTEST = 8

WARM_UP, LEAST, MOST, SECONDS = 1, 3, 50, 1.0  # rounds of a length: so many at least, and so long at most

TOKENIZED_ROWS = 512

FORWARD_ROWS = 64  # of a forward pass that is timed

PER_ROW = ("labels", "teacher_logits")  # all else in a batch is (B, S)

Points = list[tuple[int, float]]
"""Seconds by the length of the rows in tokens."""


def measure(run_dir: Path, begun: float) -> dict[str, Any]:
    """Run the stages of a run, time those that train or run the teacher, and return what was found.

    Args:
        run_dir: The folder of the run.
        begun: When this process was started, in seconds since 1970: imports are part of what a stage takes.
    """
    engine.start()
    started = time.time() - begun
    stages: dict[str, Any] = {}
    characters = 0.0
    for name in read_job(run_dir).stages:
        print(f"calibration: {name}", flush=True)
        began = time.perf_counter()
        run_stage(run_dir / name)
        seconds, stage = time.perf_counter() - began, read_stage(run_dir / name)
        if isinstance(stage, TrainStage):
            stages[name] = _of_training(stage, seconds)
        elif isinstance(stage, TeacherOutputsStage):
            stages[name] = {"forward": _of_teacher(stage)}
        elif isinstance(stage, CorpusStage | LabelledStage):
            characters = _of_tokenizer(PreparedRows(run_dir / name / "tokens"))
    return {
        "device": _device(),
        "start_seconds": started,
        "characters_per_second": characters,
        "stages": stages,
    }


def _device() -> dict[str, Any]:
    if not torch.cuda.is_available():
        threads = torch.get_num_threads()
        return {"kind": "cpu", "name": machine.processor(), "threads": threads, "memory_gb": machine.memory_gb()}
    return {"kind": "gpu", "name": torch.cuda.get_device_name(own_device()), "threads": 1, "memory_gb": memory_gb()}


def _of_training(stage: TrainStage, seconds: float) -> dict[str, Any]:
    """Return the seconds of micro-batches, of the optimizer, and of all that is done once.

    Args:
        stage: A stage that has run; its steps are of two micro-batches.
        seconds: What it took as a whole, for its few steps.
    """
    steps = Steps(stage)
    timed = {length: steps.at(length) for length in _lengths(Path(stage.data.tokens))}
    micro: Points = [(length, of_length[0]) for length, of_length in timed.items()]
    optimizer = median(of_length[1] for of_length in timed.values())
    of_steps = (stage.train.steps or 0) * (2 * micro[0][1] + optimizer)
    return {
        "micro_batch": micro,
        "forward": [(length, of_length[2]) for length, of_length in timed.items()],
        "optimizer": optimizer,
        "once": max(0.0, seconds - of_steps),
        "memory_gb": [(length, of_length[3]) for length, of_length in timed.items() if torch.cuda.is_available()],
    }


def _lengths(tokens: Path) -> list[int]:
    longest = PreparedRows(tokens).statistics["max_length"]
    return sorted({max(SHORTEST, round(share * longest)) for share in SHARES})


class Steps:
    """The training steps of a stage, on rows of any length.

    Args:
        stage: Its steps are of two micro-batches.
    """

    def __init__(self, stage: TrainStage) -> None:
        self._stage, (loaded,) = stage, load(stage)
        self._objective, self._rows = loaded.objective, loaded.rows
        size = stage.train.sequences_per_micro_batch()
        self._engine = build_engine(stage, loaded.objective, total_steps=WARM_UP + MOST, micro_batch_size=size)
        self._forward = Forward(self._engine, loaded.teacher)

    def at(self, length: int) -> tuple[float, float, float, float]:
        """Return the median seconds of a micro-batch, of the optimizer and of a forward pass, and peak memory in GB."""
        batch = self._batch(length)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._objective.train()
        times = list(rounds(lambda: self._step(batch)))
        peak = torch.cuda.max_memory_allocated() / 1024**3 if torch.cuda.is_available() else 0.0
        self._objective.eval()
        with torch.no_grad():
            forward = median(rounds(lambda: timed(lambda: self._forward(batch, Stopwatch()))))
        return median(micro for micro, _ in times), median(update for _, update in times), forward, peak

    def _batch(self, length: int) -> PreparedBatch:
        rows = np.resize(np.arange(len(self._rows)), self._stage.train.sequences_per_micro_batch())
        tensors = self._objective.prepare(of_length(self._rows.collate(rows), length), seed=0)
        return PreparedBatch(tensors, self._objective.counts(tensors), seed=0)

    def _step(self, batch: PreparedBatch) -> tuple[float, float]:
        """Take a step of two micro-batches, and return the seconds of the first, and of the update after the second."""
        first = timed(lambda: self._backward(batch)) + timed(lambda: self._engine.step(1))
        self._backward(batch)
        return first, timed(lambda: self._engine.step(1))

    def _backward(self, batch: PreparedBatch) -> None:
        sums, weights = self._forward(batch, Stopwatch()).sums, self._stage.objective.weights()
        terms = [weights[term] * total / max(batch.counts[term], 1.0) for term, total in sums.items()]
        self._engine.backward(torch.stack(terms).sum())


def of_length(batch: Batch, length: int) -> dict[str, Tensor]:
    """Return a batch with rows of so many tokens: the row's own, again and again."""
    lengths_B1 = batch["attention_mask"].sum(1, keepdim=True)
    places_BS = torch.arange(length)[None] % lengths_B1
    return {name: tensor if name in PER_ROW else tensor.gather(1, places_BS) for name, tensor in batch.items()}


def _of_teacher(stage: TeacherOutputsStage) -> Points:
    """Return the seconds of the teacher's forward pass."""
    tokens, device = Path(stage.data.tokens), own_device()
    teacher = Teacher(stage.teacher.path, Wanted(logits=True), precision=stage.engine.precision, device=device)
    rows = TokenRows(tokens, "train", load_tokenizer(PreparedRows(tokens).tokenizer_folder).pad_token_id)
    whole = rows.collate(np.resize(np.arange(len(rows)), FORWARD_ROWS))
    points = []
    for length in _lengths(tokens):
        batch = {name: tensor.to(device) for name, tensor in of_length(whole, length).items()}
        points.append((length, median(rounds(partial(timed, partial(teacher, batch))))))
    return points


def _of_tokenizer(rows: PreparedRows) -> float:
    """Return the characters that the tokenizer takes in a second, on one core."""
    tokenizer = load_tokenizer(rows.tokenizer_folder)
    texts = tokenizer.batch_decode(rows.dataset("train")[:TOKENIZED_ROWS]["input_ids"], skip_special_tokens=True)
    backend = tokenizer.backend_tokenizer
    seconds = median(rounds(lambda: timed(lambda: backend.encode_batch(texts))))
    return sum(map(len, texts)) / seconds / len(os.sched_getaffinity(0))


def rounds(action: Callable[[], Any]) -> Iterator[Any]:
    """Yield what an action returns, again and again: a few times after it has warmed up, and not for long."""
    for _ in range(WARM_UP):
        action()
    started = time.monotonic()
    for number in range(MOST):
        if number >= LEAST and time.monotonic() - started > SECONDS:
            return
        yield action()


def timed(action: Callable[[], Any]) -> float:
    """Return the seconds that an action takes, its work on the GPU included."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    started = time.perf_counter()
    action()
    wait()
    return time.perf_counter() - started


def main() -> None:
    """Measure the stages of a run."""
    run_dir, file, begun = sys.argv[1:]
    write_json(Path(file), measure(Path(run_dir), float(begun)))
    distributed.shut_down()


if __name__ == "__main__":
    exit_with_message(main, is_rank=True)
