"""The folder of a graph of documents and words.

    adjacency.safetensors    the normalized adjacency matrix by rows, and the idf and degree of every token
    statistics.json          the documents of each split

Importing this module is cheap: a submission asks only whether the folder is there.

Shapes: N nodes, V tokens.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_dist.data.prepared_rows import SPLITS
from kd_dist.files import read_json, write_json

if TYPE_CHECKING:
    import numpy as np

ADJACENCY, STATISTICS = "adjacency.safetensors", "statistics.json"


@dataclass(frozen=True)
class TextGraph:
    """A graph of documents and words.

    Attributes:
        adjacency: (N, N) the normalized weights of the edges, a symmetric CSR matrix.
        idf_V: the factor of each word in TF-IDF; 0 for tokens that no document has.
        degrees_V: the sum of the weights at each word before they are normalized, 1 for the word itself included.
        documents: the number of documents of each split.
    """

    adjacency: Any
    idf_V: "np.ndarray"
    degrees_V: "np.ndarray"
    documents: dict[str, int]

    def rows(self, split: str) -> slice:
        """Return which nodes are the documents of a split."""
        before = SPLITS[: SPLITS.index(split)]
        start = sum(self.documents[name] for name in before)
        return slice(start, start + self.documents[split])


def write_graph(graph: TextGraph, folder: Path) -> None:
    """Write a graph into an empty folder."""
    from safetensors.numpy import save_file

    adjacency = graph.adjacency
    arrays = {"indptr": adjacency.indptr, "indices": adjacency.indices, "weights": adjacency.data}
    save_file(arrays | {"idf": graph.idf_V, "degrees": graph.degrees_V}, folder / ADJACENCY)
    write_json(folder / STATISTICS, {"documents": graph.documents})


def read_graph(folder: Path) -> TextGraph:
    """Read what `write_graph` wrote."""
    from safetensors.numpy import load_file
    from scipy import sparse  # type: ignore[import-untyped]

    arrays = load_file(folder / ADJACENCY)
    size = len(arrays["indptr"]) - 1
    adjacency = sparse.csr_array((arrays["weights"], arrays["indices"], arrays["indptr"]), (size, size))
    documents = read_json(folder / STATISTICS)["documents"]
    return TextGraph(adjacency, arrays["idf"], arrays["degrees"], documents)
