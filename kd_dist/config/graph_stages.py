"""The kinds of stages that a graph of documents and words is made and learned by."""

from typing import ClassVar, Literal

from kd_dist.config.sections.graph import GraphData, GraphOptim, GraphTokenData, GraphTrain, Network
from kd_dist.config.sections.resources import CpuResources, TaskResources
from kd_dist.config.sections.training import Cadence, Selection, Tracking
from kd_dist.config.stage import Stage


class GraphStage(Stage):
    """Join documents and words, by TF-IDF and by pointwise mutual information, to a graph (`graph/`). Needs no GPU."""

    kind: Literal["graph"] = "graph"
    entry: ClassVar[str] = "kd_dist.data.text_graph:run"
    data: GraphData
    resources: CpuResources = CpuResources()


class GraphTrainStage(Stage):
    """Train a TextGCN on a graph; `export/` classifies new texts. The steps of its cadence are epochs."""

    kind: Literal["graph_train"] = "graph_train"
    entry: ClassVar[str] = "kd_dist.training.graph_stage:run"
    keeps: ClassVar[str | None] = "checkpoints/step_*"
    data: GraphTokenData
    network: Network = Network()
    train: GraphTrain = GraphTrain()
    selection: Selection = Selection(metric="loss", patience=10)
    optim: GraphOptim = GraphOptim()
    cadence: Cadence = Cadence(log_every_n_steps=1, save_every_n_steps=20, evaluate_every_n_steps=1)
    tracking: Tracking = Tracking()
    resources: TaskResources = TaskResources()
