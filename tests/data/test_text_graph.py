"""The graph of documents and words has the weights of the published formulas."""

import math
from typing import Any

import numpy as np
import pytest

from kd_dist.data.prepared_rows import SPLITS, PreparedRows
from kd_dist.data.text_graph import Documents, WordCounts, build_graph, graph_of, windows
from kd_dist.data.tokenizer_folders import load_tokenizer
from tests.conftest import LabelledWorld

SPECIAL, A, B, C, D = range(5)

DOCUMENTS = [[A, B], [A, B, C], [C, D, D], []]


def documents(rows: list[list[int]]) -> Documents:
    return Documents(np.array(sum(rows, []), dtype=np.int32), np.array([len(row) for row in rows]))


def graph(window: int, *batches: list[list[int]]) -> Any:
    counts = WordCounts(5, window)
    for rows in batches:
        counts.add(documents(rows))
    return graph_of(counts, {"train": sum(map(len, batches)), "validation": 0, "test": 0})


def by_hand() -> np.ndarray:
    """The weights of DOCUMENTS before they are normalized, with windows of two words.

    Windows are ab, ab, bc, cd and dd: p(a) = p(c) = p(d) = 2/5, p(b) = 3/5, p(a, b) = 2/5, p(b, c) = p(c, d) = 1/5.
    """
    log_2 = math.log(2)  # 4 documents, 2 of which have a, and so b and c; one has d
    weights = {(0, A): log_2, (0, B): log_2, (1, A): log_2, (1, B): log_2, (1, C): log_2, (2, C): log_2}
    weights |= {(2, D): 2 * math.log(4)}
    matrix = np.eye(9)
    for (document, word), weight in weights.items():
        matrix[document, 4 + word] = matrix[4 + word, document] = weight
    information = {(A, B): math.log((2 / 5) / (2 / 5 * 3 / 5)), (C, D): math.log((1 / 5) / (2 / 5 * 2 / 5))}
    assert math.log((1 / 5) / (3 / 5 * 2 / 5)) < 0  # b and c: no edge
    for (first, second), weight in information.items():
        matrix[4 + first, 4 + second] = matrix[4 + second, 4 + first] = weight
    return matrix


def test_the_weights_are_those_of_the_formulas() -> None:
    matrix, found = by_hand(), graph(2, DOCUMENTS)
    degrees = matrix.sum(axis=1)
    expected = matrix / np.sqrt(degrees[:, None] * degrees[None, :])
    np.testing.assert_allclose(found.adjacency.toarray(), expected, rtol=1e-6)
    assert found.adjacency.nnz == np.count_nonzero(matrix)
    np.testing.assert_allclose(found.degrees_V, degrees[4:], rtol=1e-6)
    np.testing.assert_allclose(found.idf_V, [0, math.log(2), math.log(2), math.log(2), math.log(4)], rtol=1e-6)


def test_the_graph_does_not_depend_on_the_batches_that_rows_are_read_in() -> None:
    whole, parts = graph(2, DOCUMENTS), graph(2, DOCUMENTS[:1], DOCUMENTS[1:])
    assert (whole.adjacency != parts.adjacency).nnz == 0


def test_edges_have_one_weight_in_both_directions() -> None:
    random = np.random.default_rng(0)
    found = graph(4, [random.integers(1, 5, size).tolist() for size in (3, 9, 30, 5)]).adjacency
    assert (found != found.T).nnz == 0


def test_words_that_are_together_as_often_as_by_chance_have_no_edge() -> None:
    found = graph(20, [[A, B], [A, C], [D, B], [D, C]]).adjacency.toarray()  # p(a, b) = 1/4 = p(a) p(b)
    assert not (found - np.diag(np.diag(found)))[4:, 4:].any()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[A, B, C]], [{A, B}, {B, C}]),
        ([[A, A, B]], [{A}, {A, B}]),
        ([[A], [B, C]], [{A}, {B, C}]),  # a window never has words of two documents
        ([[], [A], []], [{A}]),
    ],
)
def test_a_window_slides_over_each_document(rows: list[list[int]], expected: list[set[int]]) -> None:
    found = windows(documents(rows), 2, 5).toarray()
    assert [set(np.flatnonzero(row)) for row in found] == expected
    assert found.max() == 1


def test_held_out_rows_are_nodes_and_special_tokens_are_no_words(labelled: LabelledWorld) -> None:
    rows = PreparedRows(labelled.tokens)
    found, tokenizer = build_graph(rows, 20), load_tokenizer(rows.tokenizer_folder)
    assert found.documents == {split: rows.num_rows(split) for split in SPLITS}
    assert found.rows("test") == slice(84, 104)
    assert found.adjacency.shape == (104 + len(tokenizer),) * 2
    words = {token for split in SPLITS for ids in rows.dataset(split)["input_ids"] for token in ids}
    assert set(np.flatnonzero(found.idf_V)) == words - set(tokenizer.all_special_ids)
    for token in tokenizer.all_special_ids:
        node = found.adjacency[[104 + token]]
        assert (node.nnz, node.sum()) == (1, 1)
    last = rows.dataset("test")[19]["input_ids"]
    node = found.adjacency[[103]].toarray()[0]
    assert set(np.flatnonzero(node)) == {103} | {104 + token for token in set(last) - set(tokenizer.all_special_ids)}
