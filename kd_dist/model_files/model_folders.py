"""Facts about a model read from its folder, without torch."""

import re
from pathlib import Path
from typing import Any

from kd_dist.config.families import ALL_FAMILIES, FAMILIES, Family, with_common_names
from kd_dist.config.tasks import Task
from kd_dist.errors import UserError
from kd_dist.files import read_json
from kd_dist.model_files.model_configs import config_file, read_model_config, with_model_type
from kd_dist.model_files.weight_files import first_weights, tensor_shapes, weight_files

CLASSIFIER = "ForSequenceClassification"
MASKED_LANGUAGE_MODELS = ("MaskedLM", "PreTraining")
ELECTRA_DISCRIMINATOR = "ElectraForPreTraining"  # which tells replaced words from others, and proposes none

# The sizes that the config.json of an encoder must give before it can be trained.
NUMBERS = ("num_hidden_layers", "num_attention_heads", "hidden_size")

Config = dict[str, Any]


def has_language_model_head(path: str) -> bool:
    """Return whether a Hugging Face folder has a masked-language-model head; a hub name is assumed to have one.

    Raises:
        UserError: config.json or a weights file is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        return True
    if first_weights(folder) is not None:
        heads = [head for facts in _possible_families(folder) if (head := facts.masked_head_weights)]
        return any(f".{head}" in f".{name}" for name in tensor_shapes(folder) for head in heads)
    architectures = [name for name in _architectures(folder) if name != ELECTRA_DISCRIMINATOR]
    return any(name.endswith(MASKED_LANGUAGE_MODELS) for name in architectures)


def has_classifier_head(path: str) -> bool:
    """Return whether a Hugging Face folder holds a sequence classifier; a hub name is assumed to.

    Raises:
        UserError: config.json is damaged, or it names no architecture and the weights are damaged or pointers.
    """
    folder = Path(path)
    return not folder.is_dir() or any(name.endswith(CLASSIFIER) for name in _architectures(folder))


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest in the export of a run; empty for a model from elsewhere."""
    manifest = directory / "manifest.json"
    return read_json(manifest) if manifest.is_file() else {}


def _possible_families(folder: Path) -> list[Family]:
    """Return the family of a model folder; those built like BERT where that is not known."""
    family = read_model_config(folder).get("model_type") if config_file(folder) else None
    return [ALL_FAMILIES[family]] if family in ALL_FAMILIES else list(FAMILIES.values())


def _architectures(folder: Path) -> list[str]:
    return (read_model_config(folder).get("architectures") or []) if config_file(folder) else []


def read_config(file: Path) -> Config:
    """Read a config.json and add BERT's names for its settings.

    Raises:
        UserError: It is not a readable JSON object.
    """
    try:
        content = read_json(file)
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a Hugging Face config.json: expected an object, found {type(content).__name__}")
    return with_common_names(with_model_type(content))


def num_positions(config: Config) -> int | None:
    """Return the longest sequence that a model has positions for, in tokens including special ones.

    Args:
        config: The content of a config.json, or `PretrainedConfig.to_dict()`; of a model with branches too.

    Returns:
        The number of usable positions; None where the configuration does not give it.
    """
    config = encoder_config(config)
    family = ALL_FAMILIES.get(config.get("model_type", ""))
    limit, padding = config.get("max_position_embeddings"), config.get("pad_token_id", 1)
    if not isinstance(limit, int):
        return None
    return limit - (padding or 0) - 1 if family and family.offset_positions else limit


def encoder_config(config: Config) -> Config:
    """Return the configuration of the encoder inside a model with branches; any other configuration as it is."""
    return with_common_names(config["backbone"]) if config.get("backbone") else config


def task_of(config: Config) -> Task:
    """Return the task of a classifier; without `problem_type` it is a single label, or regression with one output."""
    tasks: dict[str | None, Task] = {
        "single_label_classification": "single_label",
        "multi_label_classification": "multi_label",
        "regression": "regression",
        None: "regression" if len(label_names(config)) == 1 else "single_label",
    }
    return tasks[config.get("problem_type")]


def label_names(config: Config) -> list[str]:
    """Return the names of a classifier's outputs in order; LABEL_0, LABEL_1 and so on where they have none.

    Half a surrogate pair, which nothing can write, is left out of a name.
    """
    if names := config.get("id2label"):
        return [re.sub("[\ud800-\udfff]", "", str(names[key])) for key in sorted(names, key=int)]
    return [f"LABEL_{index}" for index in range(config.get("num_labels", 2))]


def read_classifier_config(directory: Path) -> Config:
    """Read the config.json of a classifier.

    Raises:
        UserError: The folder or its config.json is missing, the file is damaged, or the model is not a classifier.
    """
    if config_file(directory) is None:
        inside = next((name for name in ("export", "model") if (directory / name / "config.json").is_file()), None)
        hint = f"; did you mean `{directory / inside}`?" if inside else ""
        what = "has no config.json" if directory.is_dir() else "does not exist"
        raise UserError(f"{directory} {what}{hint or '; give the folder of a trained classifier (runs/.../export)'}")
    config = read_model_config(directory)
    architectures = config.get("architectures") or []
    if not architectures:
        weight_files(directory)  # pointers and other frameworks' weights come first
    if not any(name.endswith(CLASSIFIER) for name in architectures):
        raise UserError(
            no_classifier(directory, f"its config.json names {', '.join(architectures) or 'no architecture'}")
        )
    return config


def no_classifier(directory: Path, reason: str) -> str:
    """Return a message that a folder holds no trained classifier, why not, and how to get one."""
    return f"{directory} is not a trained classifier: {reason}; {make_classifier_hint(directory)}"


def make_classifier_hint(path: str | Path) -> str:
    """Return a hint about how to turn an encoder into a classifier."""
    return f"give the export of `--job finetune encoder.path={path} data.train=FILE`"
