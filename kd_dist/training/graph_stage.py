"""The stage that trains a TextGCN: set up, train, export what classifies new texts, and score the nodes."""

from pathlib import Path
from typing import Any

import torch

from kd_dist.config.graph_stages import GraphTrainStage
from kd_dist.config.sections.graph import TEXT_GCN
from kd_dist.config.tasks import main_metric
from kd_dist.data.graph_files import TextGraph, read_graph
from kd_dist.data.prepared_rows import SPLITS, PreparedRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import RunError
from kd_dist.models.device import own_device
from kd_dist.models.graph_network import GraphNetwork, adjacency_tensor
from kd_dist.models.students import num_parameters
from kd_dist.runs.results import add_result
from kd_dist.runs.tracking import Tracker, closed_at_end
from kd_dist.serving.export import export_model
from kd_dist.training.graph_trainer import GraphTrainer, LabelledNodes
from kd_dist.training.preemption import Preemption
from kd_dist.training.selection import Best


def run(stage: GraphTrainStage, stage_dir: Path, shard: int) -> None:
    """Train from the newest checkpoint, or from the start, to the export.

    Raises:
        Preempted: A signal asked to stop; another call resumes.
        RunError: The graph was made of other rows, or training failed.
    """
    rows, graph = PreparedRows(Path(stage.data.tokens)), read_graph(Path(stage.data.graph))
    _require_same_rows(stage, rows, graph)
    tracker = Tracker(
        stage_dir=stage_dir,
        total_steps=stage.train.epochs,
        settings=stage.tracking,
        log_every_n_steps=stage.cadence.log_every_n_steps,
        config=stage.model_dump(),
    )
    with closed_at_end(tracker), Preemption() as preemption:
        trainer = _trainer(stage, stage_dir, rows, graph, tracker, preemption)
        trainer.train()
    _finish(stage, stage_dir, rows, graph, trainer)


def _require_same_rows(stage: GraphTrainStage, rows: PreparedRows, graph: TextGraph) -> None:
    """Refuse rows that are not those of the graph, whose nodes would get the labels of others."""
    found = {split: rows.num_rows(split) for split in SPLITS}
    if found != graph.documents:
        raise RunError(
            f"data.graph={stage.data.graph} was made of other rows than data.tokens={stage.data.tokens} has "
            f"({graph.documents}, not {found}): give the graph that a graph stage made of these rows"
        )


def _trainer(
    stage: GraphTrainStage,
    stage_dir: Path,
    rows: PreparedRows,
    graph: TextGraph,
    tracker: Tracker,
    preemption: Preemption,
) -> GraphTrainer:
    device, network = own_device(), stage.network
    torch.manual_seed(stage.train.seed)
    metric = main_metric(rows.labels.task) if stage.selection.metric == "auto" else stage.selection.metric
    num_nodes, num_outputs = graph.adjacency.shape[0], rows.labels.num_labels
    return GraphTrainer(
        stage,
        network=GraphNetwork(num_nodes, network.hidden_size, num_outputs, network.dropout).to(device),
        adjacency_NN=adjacency_tensor(graph, device),
        splits={
            split: LabelledNodes(graph.rows(split), _labels(rows, split).to(device))
            for split in SPLITS
            if rows.num_rows(split)
        },
        task=rows.labels.task,
        checkpoints=stage_dir / "checkpoints",
        tracker=tracker,
        preemption=preemption,
        best=Best(metric, stage.selection.patience),
    )


def _labels(rows: PreparedRows, split: str) -> torch.Tensor:
    return torch.from_numpy(rows.dataset(split).with_format("numpy")["labels"][:])


def _finish(
    stage: GraphTrainStage, stage_dir: Path, rows: PreparedRows, graph: TextGraph, trainer: GraphTrainer
) -> None:
    """Export the model, and add to the results how the nodes of validation and test documents are classified."""
    scores = {split: trainer.score(split) for split in SPLITS[1:] if rows.num_rows(split)}
    tokenizer: Any = load_tokenizer(rows.tokenizer_folder)
    settings = {"pad_token_id": tokenizer.pad_token_id, **rows.labels.model_settings()}
    model = trainer.network.cpu().classifier(graph, adjacency_tensor(graph, torch.device("cpu")), settings)
    of_validation = {f"evaluation/{name}": value for name, value in scores["validation"].items()}
    export_model(model, tokenizer, rows, stage_dir, of_validation)
    facts = {
        "stage": stage_dir.name,
        "model": TEXT_GCN,
        "seed": stage.train.seed,
        "steps": trainer.kept_step,
        "parameters": num_parameters(model),
        "training_seconds": round(trainer.seconds, 1),
    }
    add_result(stage_dir.parent, *(facts | {"split": split} | found for split, found in scores.items()))
