"""TextGCN in training (Yao et al. 2019): two layers of graph convolution over all nodes of a graph at once.

    Z = A relu(A X W0) W1

where A is the normalized adjacency matrix, and X the identity: every node has a row of W0 of its own.

Shapes: N nodes, V tokens, H hidden, C classes, F features.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_dist.data.graph_files import TextGraph
from kd_dist.models.text_gcn import TextGcnConfig, TextGcnForSequenceClassification


class GraphNetwork(nn.Module):
    """The weights of a TextGCN.

    Args:
        num_nodes: documents and tokens of the graph.
        hidden_size: width of the first layer.
        num_outputs: classes.
        dropout: share of the rows of X, and of the first layer's outputs, that are left out in training.
    """

    def __init__(self, num_nodes: int, hidden_size: int, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(num_nodes, hidden_size))
        self.second = nn.Parameter(torch.empty(hidden_size, num_outputs))
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.first)
        nn.init.xavier_uniform_(self.second)

    def forward(self, adjacency_NN: Tensor) -> Tensor:
        """Return the logits (N, C) of all nodes."""
        return propagate(adjacency_NN, self.dropout(self.hidden(adjacency_NN)) @ self.second)

    def hidden(self, adjacency_NN: Tensor) -> Tensor:
        """Return the states (N, H) of the first layer."""
        kept_N1 = self.dropout(torch.ones_like(self.first[:, :1]))  # a column of X has a single 1
        return F.relu(propagate(adjacency_NN, kept_N1 * self.first))

    @torch.no_grad()
    def classifier(
        self, graph: TextGraph, adjacency_NN: Tensor, settings: dict[str, Any]
    ) -> TextGcnForSequenceClassification:
        """Return the classifier of new texts, which has the rows of words alone, from a network in eval mode.

        Args:
            graph: what the network was trained on.
            adjacency_NN: the same as a tensor.
            settings: transformers' names for the padding token, the labels and the task.
        """
        num_tokens = len(graph.idf_V)
        config = TextGcnConfig(vocab_size=num_tokens, hidden_size=self.first.shape[1], **settings)
        model = TextGcnForSequenceClassification(config).eval()
        model.idf.copy_(torch.from_numpy(graph.idf_V))
        model.degrees.copy_(torch.from_numpy(graph.degrees_V))
        model.first.weight.copy_(self.first[-num_tokens:])
        model.second.weight.copy_(self.hidden(adjacency_NN)[-num_tokens:] @ self.second)
        model.classifier.weight.copy_(self.second.T)
        return model


def propagate(adjacency_NN: Tensor, features_NF: Tensor) -> Tensor:
    """Return the product of a symmetric sparse matrix, which is constant, and features."""
    return _Propagation.apply(adjacency_NN, features_NF)


class _Propagation(torch.autograd.Function):
    """The product with a symmetric matrix: torch would build the transposed one anew in each backward pass."""

    @staticmethod
    def forward(context: Any, adjacency_NN: Tensor, features_NF: Tensor) -> Tensor:
        context.save_for_backward(adjacency_NN)
        return adjacency_NN @ features_NF

    @staticmethod
    def backward(context: Any, *gradients_NF: Tensor) -> tuple[None, Tensor]:
        (adjacency_NN,) = context.saved_tensors
        return None, adjacency_NN @ gradients_NF[0]


def adjacency_tensor(graph: TextGraph, device: torch.device) -> Tensor:
    """Return the adjacency matrix (N, N) of a graph as a CSR tensor, whose products take half the time of COO's."""
    matrix = graph.adjacency
    starts, columns, weights = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    with torch.sparse.check_sparse_tensor_invariants(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, weights, matrix.shape, device=device)
