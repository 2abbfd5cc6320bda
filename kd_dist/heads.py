"""What head a model folder carries, seen without torch: login nodes and checks ask before anything is loaded."""

import json
import struct
from pathlib import Path

MASKED_LANGUAGE_MODELS = ("MaskedLM", "PreTraining")
# First part of the names of a prediction head's weights: BERT and ERNIE; RoBERTa; ALBERT; ELECTRA; DistilBERT.
PREDICTION_HEADS = ("cls.predictions.", "lm_head.", "predictions.", "generator_lm_head.", "vocab_")


def has_language_model_head(path: str) -> bool:
    """Whether a Hugging Face folder predicts words; a name that is no folder here (a hub's) is believed to."""
    folder = Path(path)
    if not folder.is_dir():
        return True
    if any(name.endswith(MASKED_LANGUAGE_MODELS) for name in _architectures(folder)):
        return True
    return any(name.startswith(PREDICTION_HEADS) for file in folder.glob("*.safetensors") for name in _weights(file))


def has_classifier_head(path: str) -> bool:
    """Whether a Hugging Face folder says it is a sequence classifier; a hub name is believed to be one."""
    folder = Path(path)
    return not folder.is_dir() or any(name.endswith("ForSequenceClassification") for name in _architectures(folder))


def _architectures(folder: Path) -> list[str]:
    file = folder / "config.json"
    return (json.loads(file.read_text(encoding="utf-8")).get("architectures") or []) if file.exists() else []


def _weights(file: Path) -> list[str]:
    """Names of the weights: a safetensors file begins with the length of its JSON header (uint64, little-endian)."""
    with open(file, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return list(json.loads(stream.read(length)))
