"""Confusions are counted, for all classes or for those that are confused most."""

import tracemalloc

import numpy as np
import pytest

from kd_dist.evaluation import confusion as module
from kd_dist.evaluation.confusion import Confusion

LABELS = np.array([0, 1, 2, 2, 1, 1])
PREDICTED = np.array([0, 1, 1, 2, 2, 2])


def test_rows_by_true_and_predicted_class() -> None:
    found = Confusion.of(PREDICTED, LABELS, 4)
    assert found.matrix_KK.tolist() == [[1, 0, 0, 0], [0, 1, 2, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert found.support_K.tolist() == [1, 3, 2, 0]
    assert found.classes_K.tolist() == [0, 1, 2, 3]


def test_the_largest_confusions_come_first() -> None:
    assert Confusion.of(PREDICTED, LABELS, 4).pairs(8) == [(1, 2, 2), (2, 1, 1)]
    assert Confusion.of(PREDICTED, LABELS, 4).pairs(1) == [(1, 2, 2)]
    assert Confusion.of(LABELS, LABELS, 4).pairs(8) == []


def test_the_most_confused_classes_keep_all_their_rows() -> None:
    found = Confusion.of(np.append(PREDICTED, 3), np.append(LABELS, 2), 4).most_confused(2)
    assert found.classes_K.tolist() == [1, 2]
    assert found.matrix_KK.tolist() == [[1, 2], [1, 1]]
    assert found.support_K.tolist() == [3, 3]  # that taken for class 3 included


@pytest.mark.parametrize("max_written", [2, 1000])
def test_fields_are_read_as_they_were_written(max_written: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WRITTEN_CLASSES", max_written)
    written = Confusion.of(PREDICTED, LABELS, 4)
    fields = written.fields(4)
    assert ("confusion_labels" in fields) == (max_written == 2)
    read = Confusion.of_fields(fields | {"per_class": [{"support": rows} for rows in (1, 3, 2, 0)]})
    assert read is not None
    for name in ("classes_K", "matrix_KK", "support_K"):
        assert getattr(read, name).tolist() == getattr(written, name).tolist()


def test_without_a_matrix_there_is_nothing_to_read() -> None:
    assert Confusion.of_fields({"accuracy": 0.5}) is None


def test_thousands_of_classes_take_little_memory() -> None:
    labels = np.random.default_rng(0).integers(0, 50_000, 20_000)
    tracemalloc.start()
    found = Confusion.of(np.roll(labels, 1), labels, 50_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.classes_K) == module.MAX_WRITTEN_CLASSES
    assert peak < 50e6
