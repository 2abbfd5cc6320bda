"""What head a model folder carries, seen without torch: login nodes and checks ask before anything is loaded."""

import json
from pathlib import Path
from typing import Any

from kd_dist.errors import UserError

MASKED_LANGUAGE_MODELS = ("MaskedLM", "PreTraining")
# First part of the names of a prediction head's weights: BERT and ERNIE; RoBERTa; ALBERT; ELECTRA; DistilBERT.
PREDICTION_HEADS = ("cls.predictions.", "lm_head.", "predictions.", "generator_lm_head.", "vocab_")


def has_language_model_head(path: str) -> bool:
    """Whether a Hugging Face folder predicts words; a name that is no folder here (a hub's) is believed to.

    Raises UserError for a damaged config.json or weights file.
    """
    folder = Path(path)
    if not folder.is_dir():
        return True
    if any(name.endswith(MASKED_LANGUAGE_MODELS) for name in _architectures(folder)):
        return True
    return any(name.startswith(PREDICTION_HEADS) for file in folder.glob("*.safetensors") for name in _weights(file))


def has_classifier_head(path: str) -> bool:
    """Whether a Hugging Face folder says it is a sequence classifier; a hub name is believed to be one.

    Raises UserError for a damaged config.json.
    """
    folder = Path(path)
    return not folder.is_dir() or any(name.endswith("ForSequenceClassification") for name in _architectures(folder))


def _architectures(folder: Path) -> list[str]:
    file = folder / "config.json"
    return (_json_object(file.read_bytes(), file).get("architectures") or []) if file.exists() else []


def _weights(file: Path) -> list[str]:
    """Names of the weights: a safetensors file begins with the length of its JSON header (uint64, little-endian)."""
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        # Text in its place, such as a Git LFS pointer, reads as a length of exabytes.
        return list(_json_object(stream.read(min(length, file.stat().st_size)), file))


def _json_object(content: bytes, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise UserError(f"{file}: damaged, or no more than a pointer of Git LFS ({error}); copy it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{file}: a JSON {type(found).__name__}, expected an object; copy it again")
    return found
