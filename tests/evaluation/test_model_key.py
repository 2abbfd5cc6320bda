"""Seed and speed are fields of a result, and the displayed name is made of them."""

from typing import Any

import pytest

from kd_dist.evaluation.model_key import ModelKey


@pytest.mark.parametrize(
    ("name", "key", "fields"),
    [
        ("fast", ModelKey("fast"), {"model": "fast"}),
        ("fast@43", ModelKey("fast", seed=43), {"model": "fast", "seed": 43}),
        ("a@b", ModelKey("a@b"), {"model": "a@b"}),
        ("a@b@7", ModelKey("a@b", seed=7), {"model": "a@b", "seed": 7}),
        ("@7", ModelKey("@7"), {"model": "@7"}),
    ],
)
def test_the_seed_of_a_configured_model_becomes_a_field(name: str, key: ModelKey, fields: dict[str, Any]) -> None:
    assert ModelKey.of_name(name) == key
    assert key.fields() == fields
    assert str(key) == name


def test_the_displayed_name_says_seed_and_speed() -> None:
    assert str(ModelKey("fast", seed=43, speed=0.5)) == "fast@43 at speed 0.5"
    assert str(ModelKey("fast", speed=0.0)) == "fast at speed 0"
    assert ModelKey("fast", speed=0.0).fields() == {"model": "fast", "speed": 0.0}


def test_a_name_that_looks_like_a_speed_stays_a_name() -> None:
    assert ModelKey.of_name("fast at speed 0.5") == ModelKey("fast at speed 0.5")
