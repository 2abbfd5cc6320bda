"""Settings of models have bounds, and name their folders."""

from typing import Any

import pytest
from pydantic import ValidationError

from kd_dist.config.sections.base import Section
from kd_dist.config.sections.models import Model, Student, Teacher, Tokenizer


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
    with pytest.raises(ValidationError) as caught:
        section(**settings)
    assert caught.value.error_count() == 1


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
