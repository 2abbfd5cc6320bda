"""What is known of recurrent students without torch is what the model says."""

import json
from dataclasses import fields

import pytest

from kd_dist.config.paths import REPOSITORY
from kd_dist.config.recurrent import CHOICES, RECURRENT, SIZES, is_recurrent, recurrent_problems
from kd_dist.models.recurrent import CELLS, INPUTS, POOLINGS, RecurrentConfig

SHIPPED = [json.loads(file.read_text()) for file in (REPOSITORY / "configs" / "models").glob("*.json")]


def test_the_model_and_the_login_node_agree() -> None:
    assert RecurrentConfig.model_type == RECURRENT
    assert {"cell": tuple(CELLS), "pooling": POOLINGS, "input": INPUTS} == CHOICES
    assert set(SIZES) <= {field.name for field in fields(RecurrentConfig)}


def test_shipped_architectures_have_no_problems() -> None:
    recurrent = [config for config in SHIPPED if is_recurrent(config)]
    assert sorted(config["cell"] for config in recurrent) == ["gru", "lstm"]
    known = {field.name for field in fields(RecurrentConfig)} | {"model_type"}
    for config in recurrent:
        assert recurrent_problems(config) == []
        assert config.keys() <= known


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cell": "LSTM"}, "cell='LSTM' is not one of lstm, gru"),
        ({"pooling": "maxx"}, "pooling='maxx' is not one of mean, max, attention, last; did you mean `max`?"),
        ({"hidden_size": 0}, "hidden_size=0 is not a number of at least 1"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers='2' is not a number of at least 1"),
    ],
)
def test_values_that_the_model_does_not_have_are_named(settings: dict[str, object], said: str) -> None:
    (problem,) = recurrent_problems({"model_type": "recurrent", **settings})
    assert problem.startswith(said)
