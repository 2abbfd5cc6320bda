"""Train on all nodes of a graph at once: a step is an epoch, on one device.

The trainer of batches has no form for this: every row of a batch would need the whole graph, as would each part of its
validation. What surrounds a step is the same: checkpoints, selection, preemption and tracking. Dropout is seeded by the
step, so that a run which resumes from a checkpoint goes on as if it had not stopped.

Shapes: N nodes, M rows of a split, C classes.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_dist.config.graph_stages import GraphTrainStage
from kd_dist.config.tasks import Task
from kd_dist.data.permutation import mix
from kd_dist.errors import Preempted, RunError
from kd_dist.evaluation.scores import num_not_finite, predictions, refuse_not_finite, scores_of
from kd_dist.models.graph_network import GraphNetwork
from kd_dist.objectives.prediction_losses import label_count, label_error
from kd_dist.runs.tracking import NullTracker
from kd_dist.training.checkpoint import Checkpoint, Tensors, newest_good, read_checkpoint, save_checkpoint
from kd_dist.training.meters import Means, memory_and_use
from kd_dist.training.preemption import Preemption
from kd_dist.training.selection import Best

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class LabelledNodes:
    """The documents of a split: which nodes they are, and their labels, (M) or (M, C)."""

    nodes: slice
    labels: Tensor


class GraphTrainer:
    """Train a network to its last epoch, or until the patience of its selection is exhausted.

    Args:
        stage: The settings.
        network: What is trained.
        adjacency_NN: The graph, on the network's device.
        splits: The documents of each split that has any.
        task: What the labels are.
        checkpoints: The folder of checkpoints.
        tracker: Where metrics and messages go.
        preemption: Where requests to stop come from.
        best: The selection of the best weights.
    """

    def __init__(
        self,
        stage: GraphTrainStage,
        *,
        network: GraphNetwork,
        adjacency_NN: Tensor,
        splits: dict[str, LabelledNodes],
        task: Task,
        checkpoints: Path,
        tracker: NullTracker,
        preemption: Preemption,
        best: Best,
    ) -> None:
        self._stage, self._adjacency_NN, self._splits, self._task = stage, adjacency_NN, splits, task
        self._checkpoints, self._tracker, self._preemption = checkpoints, tracker, preemption
        self._optimizer = torch.optim.Adam(network.parameters(), lr=stage.optim.learning_rate)
        self._best_weights: Tensors = {}
        self._started, self._seconds = time.monotonic(), 0.0
        self._saved_step = 0
        self.network, self.best = network, best
        self.step = 0

    def train(self) -> None:
        """Train to the end, and restore the best weights.

        Raises:
            Preempted: A signal asked to stop; the state is saved.
            RunError: The loss is not finite, or a checkpoint could not be written.
        """
        self._resume()
        while self.step < self._stage.train.epochs and not self.best.is_over():
            self.step += 1
            loss = self._train_step()
            self._tracker.progress(self.step, None, None)
            if self._tracker.is_due(self.step):
                self._log(loss)
            if self._is_due(self._stage.cadence.evaluate_every_n_steps):
                self._evaluate()
            if self._is_due(self._stage.cadence.save_every_n_steps) or self.best.is_over():
                self._save()
            if self._preemption.received:
                self._save()
                raise Preempted(self.step, self._preemption.received)
        if self._best_weights:
            self.network.load_state_dict(self._best_weights)
            self._tracker.message(
                f"kept step {self.best.step} of {self.step} ({self.best.metric} {self.best.value:.4f})"
            )
        self.network.eval()

    @property
    def kept_step(self) -> int:
        """The step whose weights training ends with."""
        return self.best.step or self.step

    @property
    def seconds(self) -> float:
        """The time of training so far, over all tries."""
        return self._seconds + time.monotonic() - self._started

    @torch.no_grad()
    def score(self, split: str) -> Means:
        """Return the loss and the scores of the documents of a split, as nodes of the graph."""
        was_training = self.network.training
        self.network.eval()
        logits_MC, labels = self._logits(split), self._splits[split].labels
        loss = self._error(split, logits_MC).item()
        self.network.train(was_training)
        found = logits_MC.float().cpu().numpy()
        refuse_not_finite(num_not_finite(found), len(found))
        return {"loss": loss} | scores_of(self._task, predictions(self._task, found), labels.cpu().numpy())

    def _logits(self, split: str) -> Tensor:
        return self.network(self._adjacency_NN)[self._splits[split].nodes]

    def _error(self, split: str, logits_MC: Tensor) -> Tensor:
        labels = self._splits[split].labels
        return label_error(logits_MC, labels, self._task, None) / label_count(labels, self._task, None)

    def _train_step(self) -> float:
        torch.manual_seed(mix(self._stage.train.seed, self.step))
        self._optimizer.zero_grad()
        loss = self._error("train", self._logits("train"))
        if not torch.isfinite(loss):
            raise RunError(
                f"the loss of epoch {self.step} is not finite; the last good checkpoint in {self._checkpoints} is "
                "kept. Lower optim.learning_rate"
            )
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self._stage.train.epochs

    def _log(self, loss: float) -> None:
        documents = len(self._splits["train"].labels) * self.step
        speed = {"speed/samples_per_second": documents / self.seconds, **memory_and_use()}
        self._tracker.log(self.step, {"train/loss": loss, **speed})

    def _evaluate(self) -> None:
        metrics = {f"evaluation/{name}": value for name, value in self.score("validation").items()}
        self._tracker.log(self.step, metrics)
        if self.best.update(self.step, metrics):
            self._best_weights = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def _save(self) -> None:
        """Write a checkpoint unless this step has one; the best weights so far are in it."""
        if self._saved_step == self.step:
            return
        moments = {
            f"{moment}/{name}": self._optimizer.state[parameter][moment]
            for name, parameter in self.network.named_parameters()
            for moment in MOMENTS
        }
        tensors = {"weights": self.network.state_dict(), "optimizer": moments, "best": self._best_weights}
        on_cpu = {file: {name: tensor.cpu() for name, tensor in content.items()} for file, content in tensors.items()}
        state: dict[str, Any] = {"best": self.best.state(), "seconds": self.seconds}
        checkpoint = Checkpoint(self.step, on_cpu, state)
        save_checkpoint(self._checkpoints, checkpoint, self._stage.cadence.keep_checkpoints)
        self._saved_step = self.step

    def _resume(self) -> None:
        """Resume from the newest good checkpoint, if any."""
        path, damaged = newest_good(self._checkpoints)
        if path is not None:
            self._load(read_checkpoint(path))
        self._tracker.begin(self.step, damaged)
        self._started = time.monotonic()

    def _load(self, checkpoint: Checkpoint) -> None:
        self.step = self._saved_step = checkpoint.step
        self._seconds = checkpoint.state["seconds"]
        self.best.load(checkpoint.state["best"])
        self.network.load_state_dict(checkpoint.tensors["weights"])
        self._best_weights = checkpoint.tensors["best"]
        for name, parameter in self.network.named_parameters():
            moments = {moment: checkpoint.tensors["optimizer"][f"{moment}/{name}"] for moment in MOMENTS}
            self._optimizer.state[parameter] = {"step": torch.tensor(float(self.step))} | {
                moment: tensor.to(parameter.device) for moment, tensor in moments.items()
            }
