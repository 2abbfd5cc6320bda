"""Settings of models have bounds, and name their folders."""

from typing import Any

import pytest

from kd_dist.config.sections.base import Section
from kd_dist.config.sections.models import Model, Student, Teacher, Tokenizer
from tests.config.refusals import assert_one_value_is_refused


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        (Tokenizer, {"vocabulary_size": 99}),
        (Student, {"teacher_layers": "a"}),
        (Teacher, {}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.__name__,
)
def test_a_value_out_of_bounds_is_refused(section: type[Section], settings: dict[str, Any]) -> None:
    assert_one_value_is_refused(section, settings)


@pytest.mark.parametrize(
    ("section", "paths"),
    [
        (Model(path="m"), ["m"]),
        (Student(path="s"), ["s"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_file_and_model_is_declared_as_such(section: Section, paths: list[str]) -> None:
    assert [path for _, path in section.named(section.PATHS + section.MODELS)] == paths
