"""Blocks hold every row once, and batches of similar rows within a bound of tokens."""

from pathlib import Path

import numpy as np
import pytest

from kd_dist.config.sections.data import DistillationData
from kd_dist.config.sections.models import Teacher
from kd_dist.config.stages import TeacherOutputsStage
from kd_dist.training import teacher_blocks
from kd_dist.training.teacher_blocks import RowBlocks, arrays_of, table_of
from tests.conftest import LabelledWorld


def stage_of(labelled: LabelledWorld, *unlabelled: Path) -> TeacherOutputsStage:
    data = DistillationData(tokens=str(labelled.tokens), unlabelled_tokens=list(map(str, unlabelled)))
    return TeacherOutputsStage(teacher=Teacher(path=str(labelled.teacher)), data=data)


@pytest.mark.parametrize("num_rows", [1, 7, 60, 1000])
def test_every_row_of_every_split_is_in_one_block(
    num_rows: int, labelled: LabelledWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_blocks, "BLOCK_ROWS", num_rows)
    rows = RowBlocks.of(stage_of(labelled))
    assert len(rows) == -(-60 // num_rows) + -(-24 // num_rows)
    for split, length in zip(rows.splits, (60, 24), strict=True):
        found = [rows.rows(block) for block in range(len(rows))]
        assert np.concatenate([numbers for of, numbers in found if of is split]).tolist() == list(range(length))


def test_a_block_of_many_classes_has_fewer_rows(labelled: LabelledWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_blocks, "BLOCK_BYTES", 100)
    assert RowBlocks.of(stage_of(labelled)).num_rows == 12  # of two logits
    monkeypatch.setattr(teacher_blocks, "BLOCK_BYTES", 1)
    assert RowBlocks.of(stage_of(labelled)).num_rows == 1


def test_few_rows_make_enough_blocks_for_many_shards(labelled: LabelledWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RowBlocks.of(stage_of(labelled)).num_rows == 64
    monkeypatch.setattr(teacher_blocks, "FEWEST_ROWS", 1)
    monkeypatch.setattr(teacher_blocks, "FOR_ALL_SHARDS", 20)
    assert RowBlocks.of(stage_of(labelled)).num_rows == 4
    monkeypatch.setattr(teacher_blocks, "BLOCK_ROWS", 3)
    assert RowBlocks.of(stage_of(labelled)).num_rows == 3


def test_items_are_made_ahead_in_order_and_errors_are_raised() -> None:
    made = []

    def items(last: int):
        for number in range(last):
            made.append(number)
            yield number
        raise OSError("no room")

    found = teacher_blocks._ahead(items(3))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="no room"):
        next(found)
    assert made == [0, 1, 2]


def test_arrays_come_back_from_a_table_as_they_were() -> None:
    keys, logits = np.array([3, 2**64 - 1], np.uint64), np.array([[1.5, np.nan], [-0.0, np.inf]], np.float32)
    found = arrays_of(table_of(keys, logits))
    np.testing.assert_array_equal(found[0], keys)
    assert found[1].tobytes() == logits.tobytes()
