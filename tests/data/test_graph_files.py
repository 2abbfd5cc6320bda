"""A graph is read as it was written."""

from pathlib import Path

import numpy as np

from kd_dist.data.graph_files import read_graph, write_graph
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.text_graph import build_graph
from tests.conftest import LabelledWorld


def test_a_graph_is_read_as_it_was_written(labelled: LabelledWorld, tmp_path: Path) -> None:
    graph = build_graph(PreparedRows(labelled.tokens), 5)
    write_graph(graph, tmp_path)
    found = read_graph(tmp_path)
    assert (found.adjacency != graph.adjacency).nnz == 0
    assert found.documents == graph.documents
    np.testing.assert_array_equal(found.idf_V, graph.idf_V)
    np.testing.assert_array_equal(found.degrees_V, graph.degrees_V)
