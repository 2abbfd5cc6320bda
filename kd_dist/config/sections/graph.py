"""Settings of the graph of documents and words, and of the network that is trained on it."""

from typing import ClassVar

from pydantic import Field

from kd_dist.config.sections.base import Section
from kd_dist.config.sections.data import PlainTokenData

TEXT_GCN = "textgcn"
"""The `model_type` in the config.json of an exported TextGCN."""


class GraphData(PlainTokenData):
    """Labelled rows of words to make a graph of."""

    window: int = Field(
        default=20, ge=2, description="words of a window; words that share windows more often than by chance are joined"
    )


class GraphTokenData(PlainTokenData):
    """The graph to train on, and the rows that it was made of, which have the labels."""

    PATHS: ClassVar[tuple[str, ...]] = (*PlainTokenData.PATHS, "graph")
    graph: str = Field(description="folder that a graph stage wrote from data.tokens")


class Network(Section):
    """The size of a TextGCN."""

    hidden_size: int = Field(default=200, ge=1, description="width of the first layer")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="share of the inputs of each layer that is left out")


class GraphTrain(Section):
    """Length and seed of training on a whole graph: an epoch is one step."""

    epochs: int = Field(default=200, ge=1, description="steps over the whole graph, at most")
    seed: int = Field(default=42, ge=0, description="seed of dropout and initial weights")


class GraphOptim(Section):
    """Adam with a constant learning rate."""

    learning_rate: float = Field(default=0.02, gt=0, description="learning rate of Adam")
