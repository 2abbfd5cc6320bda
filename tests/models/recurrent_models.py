"""Tiny recurrent students with random weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

import kd_dist.models.loading  # noqa: F401 - makes them known to transformers
from kd_dist.config.recurrent import CHOICES
from kd_dist.files import write_json
from kd_dist.models.recurrent import RecurrentConfig, RecurrentForSequenceClassification
from tests.models.random_models import LABELS, VOCABULARY

SIZES = {"embedding_size": 12, "hidden_size": 8, "classifier_size": 10}
KINDS = [
    {"cell": cell, "pooling": pooling, "bidirectional": bidirectional, "num_hidden_layers": layers}
    for cell in CHOICES["cell"]
    for pooling in CHOICES["pooling"]
    for bidirectional, layers in ((True, 1), (False, 1), (True, 2))
]
SENTENCE = {"input": "sentence", "sep_token_id": 3}
KINDS += [kind | SENTENCE for kind in KINDS if kind["bidirectional"] and kind["pooling"] in ("max", "last")]


def kind_id(kind: dict[str, Any]) -> str:
    return "-".join(map(str, kind.values()))


def random_recurrent(**settings: Any) -> RecurrentForSequenceClassification:
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    shape = {"vocab_size": VOCABULARY, **SIZES}
    return RecurrentForSequenceClassification(RecurrentConfig(**labels | shape | settings)).eval()


def save_recurrent(directory: Path, tokenizer: Path, **settings: Any) -> Path:
    names = AutoTokenizer.from_pretrained(tokenizer)
    random_recurrent(vocab_size=len(names), **settings).save_pretrained(directory)
    names.save_pretrained(directory)
    return directory


def write_recurrent_config(folder: Path, **settings: Any) -> Path:
    """An architecture that `student.config` can name."""
    write_json(folder / "recurrent.json", {"model_type": "recurrent", **SIZES, **settings})
    return folder / "recurrent.json"
