"""metrics.jsonl is read up to an incomplete last line."""

from pathlib import Path

import pytest

from kd_dist.errors import RunError
from kd_dist.runs.metrics import is_finite, is_number, read_metrics


def test_damage_in_the_middle_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"global_step": 1}\n{"glob\n{"global_step": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl:2: "):
        read_metrics(path)


def test_an_incomplete_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = '{"global_step": 1, "text": "价"}\n'.encode()
    for end in range(len(whole)):
        path.write_bytes(whole + whole[:end])
        assert [row["global_step"] for row in read_metrics(path)] == [1]


def test_booleans_are_no_numbers_and_nan_is_not_finite() -> None:
    values = [1, 0.5, True, None, "1", float("nan"), float("-inf")]
    assert [is_number(value) for value in values] == [True, True, False, False, False, True, True]
    assert [is_finite(value) for value in values] == [True, True, False, False, False, False, False]
