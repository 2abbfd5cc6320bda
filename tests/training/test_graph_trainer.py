"""Training on a whole graph resumes as if it had not stopped, and keeps the best weights."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_dist.config.graph_stages import GraphTrainStage
from kd_dist.config.tasks import METRICS, Task
from kd_dist.data.graph_files import TextGraph
from kd_dist.errors import Preempted, RunError
from kd_dist.models.graph_network import GraphNetwork, adjacency_tensor
from kd_dist.runs.tracking import NullTracker
from kd_dist.training.checkpoint import newest_good, read_checkpoint
from kd_dist.training.graph_trainer import GraphTrainer, LabelledNodes
from kd_dist.training.preemption import Preemption
from kd_dist.training.selection import Best
from tests.models.test_graph_network import graph, rows  # noqa: F401 - fixtures


class Stops(NullTracker):
    """A tracker that sends this process a signal at a step, as a scheduler does."""

    def __init__(self, step: int | None = None) -> None:
        super().__init__(total_steps=1, log_every_n_steps=1)
        self.step, self.logged = step, dict[int, Any]()

    def log(self, step: int, metrics: Any) -> None:
        self.logged[step] = self.logged.get(step, {}) | metrics

    def progress(self, step: int, loss: float | None, samples_per_second: float | None) -> None:
        if step == self.step:
            signal.raise_signal(signal.SIGTERM)


def trained(
    graph: TextGraph,  # noqa: F811
    folder: Path,
    tracker: Stops | None = None,
    labels: Any = (0, 1, 2, 0, 1, 2),
    task: Task = "single_label",
    **settings: Any,
) -> GraphTrainer:
    """Train on the graph of six documents to the end, or to the step at which the tracker stops it."""
    tracker = tracker or Stops()
    stage = GraphTrainStage.model_validate({"data": {"tokens": "t", "graph": "g"}} | settings)
    labels_D = torch.tensor(labels)
    torch.manual_seed(3)
    with Preemption() as preemption:
        trainer = GraphTrainer(
            stage,
            network=GraphNetwork(graph.adjacency.shape[0], 6, 1 if task == "regression" else 3, stage.network.dropout),
            adjacency_NN=adjacency_tensor(graph, torch.device("cpu")),
            splits={split: LabelledNodes(graph.rows(split), labels_D[graph.rows(split)]) for split in graph.documents},
            task=task,
            checkpoints=folder / "checkpoints",
            tracker=tracker,
            preemption=preemption,
            best=Best(stage.selection.metric, stage.selection.patience),
        )
        if tracker.step is None:
            trainer.train()
        else:
            with pytest.raises(Preempted, match=str(tracker.step)):
                trainer.train()
    return trainer


WEIGHTS = ("first", "second")

EPOCHS = {"train": {"epochs": 12}, "selection": {"metric": "loss", "patience": None}}


def test_a_run_that_resumes_is_bit_identical(graph: TextGraph, tmp_path: Path) -> None:  # noqa: F811
    whole = trained(graph, tmp_path / "whole", **EPOCHS)
    for stop_at in (3, 7):
        stopped = trained(graph, tmp_path / "stopped", Stops(stop_at), **EPOCHS)
        assert stopped.step == stop_at
    resumed = trained(graph, tmp_path / "stopped", **EPOCHS)
    found = []
    for name in ("whole", "stopped"):
        path, damaged = newest_good(tmp_path / name / "checkpoints")
        assert path is not None
        assert not damaged
        found.append(read_checkpoint(path))
    assert found[0].step == found[1].step == 12
    for file, tensors in found[0].tensors.items():
        for tensor_name, tensor in tensors.items():
            assert torch.equal(tensor, found[1].tensors[file][tensor_name]), (file, tensor_name)
    assert whole.best == resumed.best
    assert torch.equal(whole.network.first, resumed.network.first)


def test_the_best_weights_are_kept_and_patience_ends_training(graph: TextGraph, tmp_path: Path) -> None:  # noqa: F811
    settings = {"train": {"epochs": 300}, "selection": {"metric": "loss", "patience": 4}, "network": {"dropout": 0.0}}
    tracker = Stops()
    trainer = trained(graph, tmp_path, tracker, **settings)
    losses = {step: row["evaluation/loss"] for step, row in tracker.logged.items()}
    assert trainer.step < 300
    assert trainer.kept_step == min(losses, key=losses.__getitem__) == trainer.step - 4
    assert trainer.score("validation")["loss"] == pytest.approx(losses[trainer.kept_step])
    assert not trainer.network.training
    again = trained(graph, tmp_path, **settings)  # nothing is left to do
    assert (again.step, again.kept_step) == (trainer.step, trainer.kept_step)
    assert torch.equal(again.network.first, trainer.network.first)


def test_labels_of_held_out_documents_teach_nothing(graph: TextGraph, tmp_path: Path) -> None:  # noqa: F811
    found = []
    for name, labels in (("one", [0, 1, 2, 0, 1, 2]), ("other", [0, 1, 2, 0, 0, 0])):
        trained(graph, tmp_path / name, labels=labels, **EPOCHS)
        path, _ = newest_good(tmp_path / name / "checkpoints")
        assert path is not None
        found.append(read_checkpoint(path))
    assert all(torch.equal(found[0].tensors["weights"][name], found[1].tensors["weights"][name]) for name in WEIGHTS)
    assert found[0].state["best"]["value"] != found[1].state["best"]["value"]


def test_a_loss_that_is_not_finite_ends_the_run(graph: TextGraph, tmp_path: Path) -> None:  # noqa: F811
    rarely = {"evaluate_every_n_steps": 100}
    with pytest.raises(RunError, match="the loss of epoch [0-9]+ is not finite.*Lower optim.learning_rate"):
        trained(graph, tmp_path, optim={"learning_rate": 1e30}, cadence=rarely)


@pytest.mark.parametrize(
    ("task", "labels"),
    [("multi_label", [[1.0, 0, 1], [0, 1, 0], [1, 1, 0]] * 2), ("regression", [0.5, -1.0, 2.0] * 2)],
)
def test_several_labels_and_numbers_are_learned_too(
    graph: TextGraph,  # noqa: F811
    tmp_path: Path,
    task: Any,
    labels: Any,
) -> None:
    tracker = Stops()
    settings = EPOCHS | {"train": {"epochs": 80}, "optim": {"learning_rate": 0.1}, "network": {"dropout": 0.0}}
    trainer = trained(graph, tmp_path, tracker, labels, task=task, **settings)
    losses = [row["train/loss"] for row in tracker.logged.values()]
    assert losses[-1] < losses[0] / 2
    assert METRICS[task][0] in trainer.score("test")
