"""Settings of evaluation and calibration have bounds."""

from typing import Any

import pytest

from kd_dist.config.sections.base import Section
from kd_dist.config.sections.evaluation import Calibrate, Evaluate
from tests.config.refusals import assert_one_value_is_refused


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        (Calibrate, {"quality_budget": 1}),
        (Calibrate, {"target_speedup": 0.5}),
        (Calibrate, {"top_k": 1}),
        (Evaluate, {"models": "a:x", "speeds": "0.5,1.5"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.__name__,
)
def test_a_value_out_of_bounds_is_refused(section: type[Section], settings: dict[str, Any]) -> None:
    assert_one_value_is_refused(section, settings)


def test_none_means_no_value() -> None:
    assert Calibrate(patience="none", target_speedup="2").target_speedup == 2.0


@pytest.mark.parametrize("name", ["../outside", "a/b", "two\nlines", "", "x" * 200])
def test_a_model_whose_name_is_no_part_of_the_name_of_a_file_is_refused(name: str) -> None:
    assert_one_value_is_refused(Evaluate, {"models": {name: "folder"}})
