"""Losses are computed in float32 at least."""

import pytest
import torch

from kd_dist.objectives.precision import at_least_float32, full_precision

MKLDNN = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "expected"), [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float32"), ("float64",) * 2]
)
def test_low_precision_is_raised_and_high_precision_kept(given: str, expected: str) -> None:
    assert at_least_float32(torch.ones(2, dtype=getattr(torch, given))).dtype == getattr(torch, expected)


def test_products_are_exact_within_autocast_and_the_settings_come_back() -> None:
    left, right = torch.randn(8, 8, dtype=torch.float64), torch.randn(8, 8, dtype=torch.float64)
    before = MKLDNN.fp32_precision
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with full_precision("cpu"):
            inside = left.float() @ right.float()
        assert (left.float() @ right.float()).dtype == torch.bfloat16
    torch.testing.assert_close(inside, (left @ right).float())
    assert MKLDNN.fp32_precision == before


@pytest.mark.parametrize("older", ["highest", "high", "medium"])
def test_the_older_switches_can_be_read_within_and_come_back(older: str) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(older)
        with full_precision("cpu"):
            assert not torch.backends.cuda.matmul.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == older
    finally:
        torch.set_float32_matmul_precision(before)
