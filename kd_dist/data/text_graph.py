"""The graph stage: documents and words as nodes, joined by TF-IDF and pointwise mutual information (Yao et al. 2019).

Nodes are the training, validation and test rows in this order, then all tokens by id. Special tokens are no words: they
are joined to themselves alone, as is a word that no row has. Rows are read a batch at a time, so that nothing but the
words of documents and the counts of pairs of words is in memory.

Shapes: N nodes, D documents, V tokens, W windows, L words of a window.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from kd_dist.config.graph_stages import GraphStage
from kd_dist.data.graph_files import TextGraph, write_graph
from kd_dist.data.prepared_rows import SPLITS, PreparedRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.files import replaced_folder

BATCH_ROWS = 4_096

WORDS_AT_ONCE = 1_024  # whose pairs are weighted at a time


class Documents(NamedTuple):
    """The words of some documents, one document after another, and how many words each has."""

    words: np.ndarray
    lengths: np.ndarray


def run(stage: GraphStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/graph.

    Raises:
        RunError: the rows have no labels.
    """
    started, rows = time.monotonic(), PreparedRows(Path(stage.data.tokens))
    rows.require_labels()
    graph = build_graph(rows, stage.data.window)
    with replaced_folder(stage_dir / "graph") as (_, output):
        write_graph(graph, output)
    num_edges = (graph.adjacency.nnz - graph.adjacency.shape[0]) // 2
    print(
        f"{stage_dir.name}: {sum(graph.documents.values()):,} documents, those of validation and test without their "
        f"labels, {np.count_nonzero(graph.idf_V):,} words and {num_edges:,} edges; built in "
        f"{time.monotonic() - started:.0f} s",
        flush=True,
    )


def build_graph(rows: PreparedRows, window: int) -> TextGraph:
    """Build the graph of all splits of labelled rows; `window` is the number of words that are looked at together."""
    tokenizer = load_tokenizer(rows.tokenizer_folder)
    is_word_V = np.ones(max(tokenizer.get_vocab().values()) + 1, dtype=bool)
    is_word_V[tokenizer.all_special_ids] = False
    counts = WordCounts(len(is_word_V), window)
    for split in SPLITS:
        for documents in read_documents(rows.dataset(split), is_word_V):
            counts.add(documents)
    return graph_of(counts, {split: rows.num_rows(split) for split in SPLITS})


def read_documents(dataset: Any, is_word_V: np.ndarray) -> Iterator[Documents]:
    """Yield the words of the rows of a dataset, a batch at a time."""
    for table in dataset.select_columns(["input_ids"]).with_format("arrow").iter(BATCH_ROWS):
        lists = table.column("input_ids").combine_chunks()
        ids, lengths = lists.flatten().to_numpy(), lists.value_lengths().to_numpy()
        is_word = is_word_V[ids]
        document = np.repeat(np.arange(len(lengths)), lengths)[is_word]
        yield Documents(ids[is_word], np.bincount(document, minlength=len(lengths)))


class WordCounts:
    """Counts of words in documents and in windows.

    Attributes:
        in_documents: for each batch of documents, how often a document has a word.
        num_windows: the number of windows of all documents.
        windows_VV: in how many windows two words are together, above the diagonal; and each word, on it.
    """

    def __init__(self, num_tokens: int, window: int) -> None:
        self.num_tokens, self._window = num_tokens, window
        self.in_documents: list[Any] = []
        self.num_windows = 0
        self.windows_VV = sparse.csr_array((num_tokens, num_tokens), dtype=np.int32)

    def add(self, documents: Documents) -> None:
        """Count the words of some documents."""
        document = np.repeat(np.arange(len(documents.lengths)), documents.lengths)
        shape = len(documents.lengths), self.num_tokens
        self.in_documents.append(_counts(document, documents.words, shape))
        windows_WV = windows(documents, self._window, self.num_tokens)
        self.num_windows += windows_WV.shape[0]
        self.windows_VV = self.windows_VV + sparse.triu(windows_WV.T @ windows_WV, format="csr")


def windows(documents: Documents, size: int, num_tokens: int) -> Any:
    """Return (W, V) which words each window of documents has: 1, however often.

    A window slides over a document word by word; a document that is no longer than a window is one.
    """
    starts = np.cumsum(documents.lengths) - documents.lengths
    number = np.where(documents.lengths > 0, np.maximum(documents.lengths - size + 1, 1), 0)
    document_W = np.repeat(np.arange(len(number)), number)
    first_W = starts[document_W] + np.arange(len(document_W)) - np.repeat(np.cumsum(number) - number, number)
    places_WL = first_W[:, None] + np.arange(size)
    is_inside_WL = places_WL < (starts + documents.lengths)[document_W][:, None]
    words = documents.words[places_WL[is_inside_WL]]
    found = _counts(np.nonzero(is_inside_WL)[0], words, (len(document_W), num_tokens))
    found.data[:] = 1
    return found


def _counts(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Any:
    """Return how often each pair of row and column is there; scipy keeps the width of these indices ever after."""
    places = rows.astype(np.int32), columns.astype(np.int32)
    return sparse.csr_array((np.ones(len(rows), np.int32), places), shape)


def graph_of(counts: WordCounts, documents: dict[str, int]) -> TextGraph:
    """Return the graph of documents whose words are counted.

    The weight of a document and a word is TF-IDF, how often it has the word times log(D / documents with the word); of
    two words their mutual information log(p(i, j) / (p(i) p(j))) in windows, where that is positive; of a node and
    itself 1. Then A becomes D^-1/2 A D^-1/2, where D has the sums of its rows.
    """
    weights_DV = sparse.vstack(counts.in_documents, format="csr").astype(np.float32)
    in_documents_V = np.bincount(weights_DV.indices, minlength=counts.num_tokens)
    idf_V = np.log(weights_DV.shape[0] / np.maximum(in_documents_V, 1)) * (in_documents_V > 0)
    idf_V = idf_V.astype(np.float32)
    weights_DV.data *= idf_V[weights_DV.indices]
    information_VV = mutual_information(counts.windows_VV, counts.num_windows)
    of_documents = sparse.hstack([sparse.eye_array(weights_DV.shape[0], dtype=np.float32), weights_DV], format="csr")
    ones_VV = sparse.eye_array(counts.num_tokens, dtype=np.float32, format="csr")
    of_words = sparse.hstack([weights_DV.T, information_VV + information_VV.T + ones_VV], format="csr")
    adjacency = sparse.vstack([of_documents, of_words], format="csr")
    adjacency.eliminate_zeros()
    degrees_N = adjacency.sum(axis=1, dtype=np.float64)
    normalize(adjacency, degrees_N)
    return TextGraph(adjacency, idf_V, degrees_N[-counts.num_tokens :].astype(np.float32), documents)


def mutual_information(windows_VV: Any, num_windows: int) -> Any:
    """Return (V, V) the positive pointwise mutual information of words, above the diagonal.

    Args:
        windows_VV: in how many windows two words are together, above the diagonal, and each word, on it.
        num_windows: how many windows there are.
    """
    windows_V, parts = windows_VV.diagonal().astype(np.float64), []
    for start in range(0, windows_VV.shape[0], WORDS_AT_ONCE):
        pairs = windows_VV[start : start + WORDS_AT_ONCE].tocoo()
        ratios = pairs.data * float(num_windows) / (windows_V[start + pairs.row] * windows_V[pairs.col])
        kept = (ratios > 1) & (pairs.col > start + pairs.row)
        content = np.log(ratios[kept]).astype(np.float32), (pairs.row[kept], pairs.col[kept])
        parts.append(sparse.csr_array(content, pairs.shape))
    return sparse.vstack(parts, format="csr")


def normalize(adjacency: Any, degrees_N: np.ndarray) -> None:
    """Divide the weight of each edge by the roots of the degrees of its ends, in place."""
    roots_N = (1 / np.sqrt(degrees_N)).astype(np.float32)
    factors = np.repeat(roots_N, np.diff(adjacency.indptr))
    factors *= roots_N[adjacency.indices]
    adjacency.data *= factors
