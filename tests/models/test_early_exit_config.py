"""A configuration that makes no sense is refused by name, and one with a backbone knows what an encoder's knows."""

import json
from pathlib import Path
from typing import Any

import pytest

from kd_dist.errors import UserError
from kd_dist.models.classifier import load_classifier
from kd_dist.models.early_exit_config import FastBertConfig
from tests.models.random_models import NUM_LAYERS, random_fastbert


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("thresholds", ["0.1"]),
        ("thresholds", [None]),
        ("thresholds", [float("nan")]),
        ("thresholds", [5]),
        ("thresholds", 0.5),
        ("top_k", 1),
        ("uncertainty", "margn"),
        ("branch_activation", "gelu"),
        ("branch_heads", 3),
        ("branch_width", 0),
        ("branch_width", "128"),
        ("patience", 0),
        ("backbone", ["bert"]),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_with_the_name(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name}="):
        FastBertConfig(**{name: value})
    random_fastbert().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(content | {name: value}), encoding="utf-8")
    with pytest.raises(UserError, match=f"config.json cannot be used: .*{name}="):
        load_classifier(tmp_path)


def test_it_answers_for_the_architecture_of_its_backbone() -> None:
    config = random_fastbert("distilbert").config
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (16, NUM_LAYERS, 100)
    assert getattr(config, "type_vocab_size", None) is None
    with pytest.raises(AttributeError, match="FastBertConfig has no attribute 'unheard_of'"):
        _ = config.unheard_of
