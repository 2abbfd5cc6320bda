"""Settings of evaluation and calibration have bounds."""

from typing import Any

import pytest
from pydantic import ValidationError

from kd_dist.config.sections.base import Section
from kd_dist.config.sections.evaluation import Calibrate, Evaluate


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
    with pytest.raises(ValidationError) as caught:
        section(**settings)
    assert caught.value.error_count() == 1


def test_none_means_no_value() -> None:
    assert Calibrate(patience="none", target_speedup="2").target_speedup == 2.0
