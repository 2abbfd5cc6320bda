"""Settings of augmentation have bounds, and name their files and models."""

from typing import Any

import pytest

from kd_dist.config.sections.augmentation import Augment
from kd_dist.config.sections.base import Section
from tests.config.refusals import assert_one_value_is_refused


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        (Augment, {"probability": 0}),
        (Augment, {"keep_confidence": 1.1}),
        (Augment, {"multi_piece": "both"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.__name__,
)
def test_a_value_out_of_bounds_is_refused(section: type[Section], settings: dict[str, Any]) -> None:
    assert_one_value_is_refused(section, settings)


def test_none_means_no_value() -> None:
    assert Augment(keep_confidence="none", mlm_path="null").keep_confidence is None


@pytest.mark.parametrize(
    ("section", "paths"),
    [
        (Augment(word_vectors="v", mlm_path="m"), ["v", "m"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_file_and_model_is_declared_as_such(section: Section, paths: list[str]) -> None:
    assert [path for _, path in section.named(section.PATHS + section.MODELS)] == paths
