"""The facts about recurrent students that are known without torch; the model is `kd_dist/models/recurrent.py`."""

from collections.abc import Mapping
from typing import Any

from kd_dist.errors import nearest

RECURRENT = "recurrent"
"""The `model_type` in the config.json of a recurrent student."""

RECURRENT_RATE = 1e-3
"""The peak learning rate of AdamW, whatever the width: recurrent layers bear larger steps than attention."""

SIZES = ("embedding_size", "hidden_size", "num_hidden_layers", "classifier_size")
CHOICES = {"cell": ("lstm", "gru"), "pooling": ("mean", "max", "attention", "last"), "input": ("tokens", "sentence")}


def is_recurrent(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json describes a recurrent student."""
    return config.get("model_type") == RECURRENT


def recurrent_problems(config: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the values in the config.json of a recurrent student; what it leaves out is default."""
    problems = [
        f"{name}={config[name]!r} is not a number of at least 1"
        for name in SIZES
        if name in config and not (isinstance(config[name], int) and config[name] >= 1)
    ]
    return problems + [
        f"{name}={config[name]!r} is not one of {', '.join(choices)}{nearest(str(config[name]), choices)}"
        for name, choices in CHOICES.items()
        if name in config and config[name] not in choices
    ]
