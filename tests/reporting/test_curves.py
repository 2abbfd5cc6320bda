"""Losses are drawn over steps, and the step that is kept is marked."""

from pathlib import Path

import numpy as np
import pytest

from kd_dist.reporting.curves import Line, _smooth, curves
from kd_dist.reporting.run_page import write_report
from tests.reporting.pages import (
    Page,
    text_of,
    write,
)


def test_a_wide_loss_is_on_a_logarithmic_axis(run_dir: Path, tmp_path: Path) -> None:
    write_report(run_dir, tmp_path / "page.html")
    wide = Page(tmp_path / "page.html").texts
    assert {"1", "10", "100"} <= set(wide)


def test_the_kept_step_is_marked(scored_run: Path) -> None:
    assert "best so far: step 20, accuracy 0.8600" in text_of(scored_run)
    write(scored_run / "distill" / "COMPLETE", {"seconds": 1.0})
    assert "kept: step 20, accuracy 0.8600" in text_of(scored_run)


def line(values: list[float], label: str = "loss") -> Line:
    return Line(label, np.arange(len(values), dtype=float), np.array(values))


def test_nothing_to_plot_is_said() -> None:
    assert "not recorded" in curves("Loss", [line([])])


def test_a_single_line_needs_no_legend() -> None:
    assert "training" not in curves("Loss", [line([1.0, 2.0], "training"), line([])])
    assert "training" in curves("Loss", [line([1.0, 2.0], "training"), line([2.0, 3.0], "held-out")])


def test_smoothing_keeps_straight_lines_and_the_ends() -> None:
    straight = np.linspace(0, 1, 500)
    np.testing.assert_allclose(_smooth(straight), straight)
    noisy = straight + np.random.default_rng(0).normal(0, 0.1, 500)
    smooth = _smooth(noisy)
    assert (smooth[0], smooth[-1]) == pytest.approx((noisy[0], noisy[-1]))
    assert np.abs(smooth - straight)[20:-20].max() < np.abs(noisy - straight).max() / 2


def test_shares_are_percentages_from_zero() -> None:
    shown = curves("Shares", [line([0.5, 0.55])], kind="share")
    assert ">0%<" in shown
