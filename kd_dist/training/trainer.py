"""The training loop: resume, step, log, evaluate and save; independent of method and model."""

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import torch

from kd_dist.config.stages import TrainStage
from kd_dist.data.token_rows import TokenRows
from kd_dist.errors import RunError
from kd_dist.models.teacher import Teacher
from kd_dist.objectives.base import Objective
from kd_dist.runs.tracking import NullTracker
from kd_dist.training import distributed
from kd_dist.training.batches import BatchPlan
from kd_dist.training.checkpoint import (
    Checkpoint,
    read_checkpoint,
    read_weights,
    save_checkpoint,
    verified,
)
from kd_dist.training.engine import Engine
from kd_dist.training.feed import Feed, StepRows
from kd_dist.training.forward import Forward, Kept
from kd_dist.training.meters import Interval, Means, Stopwatch, memory_and_use, slowest_rank
from kd_dist.training.profiling import Profile
from kd_dist.training.selection import Best
from kd_dist.training.validation import Validator
from kd_dist.training.watchdog import Watchdog

Place = tuple[int, int]
"""How far training is: the steps that are done, and the micro-batches of the next one."""


class Trainer:
    """Train one objective to its last step, or until the patience of its selection is exhausted.

    `together.train` drives it, alone or with those of other students: `resume`, `passes`, `finish`.

    Args:
        stage: The settings.
        engine: The engine that holds `objective`.
        objective: What is trained.
        teacher: The teacher, where the objective needs one that runs during training.
        rows: The training rows.
        validation_rows: The held-out rows; there may be none.
        total_steps: Optimizer steps of the whole run.
        micro_batch_size: Rows of a forward pass.
        profile: Of some of the steps.
        checkpoints: The folder of checkpoints.
        newest: What `newest_good` found there, on every rank.
        tracker: Where metrics and messages go.
        watchdog: Ends this process if a step hangs.
        kept: What this student shares of the teacher's outputs with others that are trained on the same rows.
        crashed_step: A step that an earlier try crashed at.
        best: The selection of the best weights; None to keep the last.
    """

    def __init__(
        self,
        stage: TrainStage,
        *,
        engine: Engine,
        objective: Objective,
        teacher: Teacher | None,
        rows: TokenRows,
        validation_rows: TokenRows,
        total_steps: int,
        micro_batch_size: int,
        profile: Profile,
        checkpoints: Path,
        newest: tuple[Path | None, list[str]],
        tracker: NullTracker,
        watchdog: Watchdog,
        kept: Kept | None = None,
        crashed_step: int | None = None,
        best: Best | None = None,
    ) -> None:
        self._stage, self._engine, self._objective, self._rows = stage, engine, objective, rows
        self._plan = BatchPlan(
            rows.lengths,
            global_batch_size=stage.train.global_batch_size,
            micro_batch_size=micro_batch_size,
            bucket_steps=stage.data.bucket_steps,
            seed=stage.train.seed,
        )
        self._weights = stage.objective.weights()
        self._forward = Forward(engine, teacher, kept)
        self._validator = Validator(
            self._forward,
            objective,
            validation_rows,
            self._weights,
            micro_batch_size=micro_batch_size,
            seed=stage.train.seed,
        )
        self._best = best
        self._checkpoints, self._newest, self._micro_batch_size = checkpoints, newest, micro_batch_size
        self._tracker, self._profile = tracker, profile
        self._watchdog, self._crashed_step = watchdog, crashed_step
        self._feed = Feed(rows, self._plan, objective)
        self._teacher_time, self._forward_time, self._interval = Stopwatch(), Stopwatch(), Interval()
        self.total_steps = total_steps
        self.step = 0
        self.refused_in_a_row = 0
        self._saved_step = -1
        self._latest: Means = {}
        self._of_best: Means = {}
        self.speeds: list[float] = []

    def passes(self) -> Iterator[Place]:
        """Train to the end, and yield after each micro-batch, and each step, how far that is. Collective.

        Raises:
            RunError: Too many skipped steps in a row, or a checkpoint could not be written.
        """
        self._objective.train()
        for rows in self._feed.steps(self.step + 1, self.total_steps):
            if self._is_over():
                break
            self._begin_step()
            metrics = yield from self._train_step(rows)
            self._tracker.progress(self.step, None, None)
            if self._tracker.is_due(self.step):
                self._log(metrics)
            with self._interval.pause(), self._watchdog.pause():
                improved = self._is_due(self._stage.cadence.evaluate_every_n_steps) and self._evaluate()
                if improved or self._is_due(self._stage.cadence.save_every_n_steps) or self._is_over():
                    self.save()
            yield self.step, 0

    def finish(self) -> None:
        """End training, and restore the best weights where there is a selection. Collective."""
        self._profile.end()
        self._take_best()

    @property
    def kept_step(self) -> int:
        """The step whose weights training ends with."""
        return self._best.step if self._best is not None and self._best.step else self.step

    @property
    def kept_metrics(self) -> Means:
        """The latest value of each metric that was logged up to `kept_step`."""
        return self._of_best if self._best is not None and self._best.step else self._latest

    def close(self) -> None:
        """Release threads and memory, for the next stage in this process."""
        self._feed.close()
        self._engine.close()

    def _begin_step(self) -> None:
        self.step += 1
        self._watchdog.at(self.step)
        self._profile.begin(self.step)
        if self.step == self._crashed_step:
            rows = self._rows.named(self._plan.rows(self.step))
            self._tracker.message(f"the last try crashed at step {self.step}, which has the rows {rows}")

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.total_steps

    def _is_over(self) -> bool:
        return self._best is not None and self._best.is_over()

    def _evaluate(self) -> bool:
        """Evaluate, and return whether these are the best weights so far. Collective."""
        metrics = self._validator.evaluate()
        if not metrics:
            return False
        self._record(metrics)
        if self._best is None or not self._best.update(self.step, metrics):
            return False
        self._of_best = dict(self._latest)
        return True

    def _record(self, metrics: Means) -> None:
        self._latest.update(metrics)
        self._tracker.log(self.step, metrics)

    def _take_best(self) -> None:
        """Restore the best weights, which rank 0 verifies and every rank reads. Collective."""
        if self._best is None or not self._best.step:
            return
        path = distributed.from_rank_0(lambda: verified(self._checkpoints, self.kept_step))
        self._engine.load_weights(read_weights(path))
        self._of_best = self._of_best or self._validator.evaluate()
        shown = f"{self._best.metric} {self._best.value:.4f}"
        self._tracker.message(f"kept step {self._best.step} of {self.step} ({shown})")

    def _train_step(self, rows: StepRows) -> Generator[Place, None, Means]:
        """Take one optimizer step over the global batch, and yield after each of its micro-batches.

        So all students are done with the last one, and the teacher's outputs for it, before any is evaluated.
        """
        counts, weights = rows.counts(), self._stage.objective.weights_at(self.step)
        for number, batch in enumerate(rows.micro_batches, start=1):
            torch.manual_seed(batch.seed)
            with self._forward_time:
                sums = self._forward(batch, self._teacher_time).sums
            terms = {term: total / counts[term] for term, total in sums.items()}
            self._engine.backward(torch.stack([weights[term] * value for term, value in terms.items()]).sum())
            self._interval.add_batch(batch, terms)
            outcome = self._engine.step(self.step)
            yield self.step - 1, number
        self._interval.steps += 1
        self._count_refusals(outcome.applied)
        return {"optim/learning_rate": outcome.learning_rate, "optim/gradient_norm": outcome.gradient_norm}

    def _count_refusals(self, applied: bool) -> None:
        self.refused_in_a_row = 0 if applied else self.refused_in_a_row + 1
        if applied:
            return
        self._tracker.message(f"step {self.step} skipped: its loss or gradient is not finite")
        limit = self._stage.train.max_nonfinite_steps
        if self.refused_in_a_row >= limit:
            raise RunError(
                f"{limit} steps in a row had a loss or gradient that is not finite (the last: step {self.step}); the "
                f"last good checkpoint in {self._checkpoints} is kept. Lower optim.learning_rate, use "
                "engine.precision=fp32, or inspect the data of these steps"
            )

    def _log(self, metrics: Means) -> None:
        """Log the mean of the steps since the last logged step, over all ranks. Collective."""
        interval, self._interval = self._interval, Interval()
        seconds = time.perf_counter() - interval.started
        names = sorted(interval.terms)
        own = [float(interval.terms[name]) for name in names]
        work = [interval.samples, interval.tokens, interval.padded_tokens]
        waited = self._feed.read_wait()
        times = [self._teacher_time.read(), waited]
        *sums, samples, tokens, padded_tokens, of_teacher, of_data = distributed.sum_over_ranks([*own, *work, *times])
        own_seconds = distributed.gather(waited + self._forward_time.read())
        terms = {name: total / interval.steps for name, total in zip(names, sums, strict=True)}
        weighted = {name: self._weights[name] * value for name, value in terms.items()}
        rank_seconds = seconds * distributed.world_size()
        self.speeds.append(samples / seconds)
        self._record(
            {
                "train/loss": sum(weighted.values()),
                **{f"train/{name}": value for name, value in terms.items()},
                **{f"train/weighted/{name}": value for name, value in weighted.items()},
                **metrics,
                "optim/refused_in_a_row": self.refused_in_a_row,
                "epoch": self._plan.epoch(self.step),
                "speed/samples_per_second": samples / seconds,
                "speed/tokens_per_second": tokens / seconds,
                "speed/padding_share": 1 - tokens / padded_tokens,
                **({"speed/teacher_share": of_teacher / rank_seconds} if self._forward.teacher else {}),
                "speed/data_wait_share": of_data / rank_seconds,
                **slowest_rank(own_seconds),
                **memory_and_use(),
            }
        )

    def save(self) -> None:
        """Write a checkpoint unless this step has one. Collective: rank 0 writes, every rank raises if that fails."""
        if self._saved_step == self.step:
            return
        tensors, state = self._engine.save()
        best_step = 0 if self._best is None else self._best.step
        checkpoint = Checkpoint(self.step, tensors, state | self._state())
        keep = self._stage.cadence.keep_checkpoints
        distributed.from_rank_0(lambda: save_checkpoint(self._checkpoints, checkpoint, keep, best_step))
        self._saved_step = self.step

    def _state(self) -> dict[str, Any]:
        """Return the trainer's own part of a checkpoint."""
        metrics = {"latest": self._latest, "of_best": self._of_best}
        best = {} if self._best is None else {"best": self._best.state()}
        own = {"refused_in_a_row": self.refused_in_a_row, "micro_batch_size": self._micro_batch_size}
        return own | {"metrics": metrics} | best

    def resume(self) -> None:
        """Resume from the newest good checkpoint, if there is one. Collective."""
        path, damaged = self._newest
        if path is not None:
            self._load(read_checkpoint(path))
        self._tracker.begin(self.step, damaged)
        self._interval = Interval()

    def _load(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint. Collective."""
        self._engine.load(checkpoint.tensors, checkpoint.state)
        self.step = self._saved_step = checkpoint.step
        self.refused_in_a_row = checkpoint.state["refused_in_a_row"]
        if self._best is not None:
            self._best.load(checkpoint.state["best"])
        if metrics := checkpoint.state.get("metrics"):  # earlier versions kept them only in metrics.jsonl
            self._latest, self._of_best = metrics["latest"], metrics["of_best"]
