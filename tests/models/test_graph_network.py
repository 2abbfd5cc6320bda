"""A TextGCN in training is the published product, and new texts get what their nodes would get."""

from typing import Any

import numpy as np
import pytest
import torch

from kd_dist.data.graph_files import TextGraph
from kd_dist.data.text_graph import WordCounts, graph_of
from kd_dist.models.graph_network import GraphNetwork, adjacency_tensor, propagate
from tests.data.test_text_graph import documents

NUM_TOKENS = 12


@pytest.fixture
def rows() -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(1, NUM_TOKENS, size).tolist() for size in (3, 9, 5, 14, 4, 6)]  # 0 is no word


@pytest.fixture
def graph(rows: list[list[int]]) -> TextGraph:
    counts = WordCounts(NUM_TOKENS, 4)
    counts.add(documents(rows))
    return graph_of(counts, {"train": 4, "validation": 1, "test": 1})


def network(graph: TextGraph, dropout: float = 0.0) -> GraphNetwork:
    torch.manual_seed(0)
    return GraphNetwork(graph.adjacency.shape[0], 7, 3, dropout)


def test_logits_and_gradients_are_those_of_dense_products(graph: TextGraph) -> None:
    model, adjacency_NN = network(graph), adjacency_tensor(graph, torch.device("cpu"))
    dense_NN = torch.from_numpy(graph.adjacency.toarray())
    expected_NC = dense_NN @ (dense_NN @ model.first).relu() @ model.second
    torch.testing.assert_close(model(adjacency_NN), expected_NC)
    target_NC = torch.randn_like(expected_NC)
    expected = torch.autograd.grad((expected_NC * target_NC).sum(), list(model.parameters()))
    found = torch.autograd.grad((model(adjacency_NN) * target_NC).sum(), list(model.parameters()))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_gradient_of_a_propagation_is_right(graph: TextGraph) -> None:
    adjacency_NN = adjacency_tensor(graph, torch.device("cpu")).double()
    features_NF = torch.randn(adjacency_NN.shape[0], 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda features: propagate(adjacency_NN, features), features_NF, atol=1e-4)


def test_dropout_leaves_out_whole_nodes_of_the_first_layer(graph: TextGraph) -> None:
    model = network(graph, dropout=0.5)
    with torch.no_grad():
        model.first.fill_(1.0)
        identity_NN = torch.eye(graph.adjacency.shape[0]).to_sparse_csr()
        states_NH = model.hidden(identity_NN)
    assert set(states_NH.unique().tolist()) == {0.0, 2.0}
    assert (states_NH == states_NH[:, :1]).all()


def logits_of(graph: TextGraph, model: GraphNetwork, rows: list[list[int]]) -> Any:
    """Return the logits of the documents as nodes, and of the same texts as new ones."""
    adjacency_NN = adjacency_tensor(graph, torch.device("cpu"))
    classifier = model.eval().classifier(graph, adjacency_NN, {"num_labels": 3})
    with torch.no_grad():
        return model(adjacency_NN)[: len(rows)], torch.cat([classifier(torch.tensor([row])).logits for row in rows])


def test_a_new_text_gets_the_logits_of_a_node_that_has_no_row_of_its_own(
    graph: TextGraph, rows: list[list[int]]
) -> None:
    model = network(graph)
    with torch.no_grad():
        model.first[: len(rows)] = 0
    of_nodes, of_new = logits_of(graph, model, rows)
    torch.testing.assert_close(of_new, of_nodes)


def test_the_row_of_a_node_is_all_that_a_new_text_lacks(graph: TextGraph, rows: list[list[int]]) -> None:
    model = network(graph)
    of_nodes, of_new = logits_of(graph, model, rows)
    adjacency_NN = torch.from_numpy(graph.adjacency.toarray())
    states_NH = adjacency_NN @ model.first.detach()
    own = adjacency_NN.diagonal()[: len(rows), None]  # 1 / degree
    without_row_DH = (states_NH[: len(rows)] - own * model.first[: len(rows)].detach()).relu()
    difference_DH = own * (states_NH[: len(rows)].relu() - without_row_DH)
    torch.testing.assert_close(of_nodes - of_new, difference_DH @ model.second.detach(), atol=1e-6, rtol=1e-5)
    assert (of_nodes - of_new).abs().max() > 1e-4
