"""Aligned columns: nothing is cut, one column wraps."""

import pytest

from launch.columns import columns, wrap

ROWS = [["stage", "waits for", "limit"], ["report", "layers, distill, evaluation", "1 h"], ["a", "-"]]


def test_columns_are_aligned_and_short_rows_end_early() -> None:
    assert columns([["a", "bbb", "c"], ["aaa"]]) == [["a    bbb  c"], ["aaa"]]


def test_the_wrapped_column_takes_the_room_that_is_left() -> None:
    shown = columns(ROWS, width=30, wrapped=1)
    assert shown[1] == ["report  layers,          1 h", "        distill,", "        evaluation"]
    assert max(len(line) for lines in shown for line in lines) <= 30


@pytest.mark.parametrize("width", [None, 10, 20, 40, 80])
def test_no_word_is_lost_or_cut_at_any_width(width: int | None) -> None:
    for row, lines in zip(ROWS, columns(ROWS, width, wrapped=1), strict=True):
        assert sorted(" ".join(lines).split()) == sorted(" ".join(row).split())


def test_a_key_is_longer_than_the_line_rather_than_broken() -> None:
    assert wrap("set train.max_nonfinite_steps=5", 10, "  ") == ["  set", "  train.max_nonfinite_steps=5"]
    assert wrap("set train.max_nonfinite_steps=5", None, "  ") == ["  set train.max_nonfinite_steps=5"]
