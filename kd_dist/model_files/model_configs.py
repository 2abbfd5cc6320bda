"""The configuration of a model folder, completed where older folders leave things out; read without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_dist.config.families import ALL_FAMILIES, FAMILIES, unsupported, with_common_names
from kd_dist.errors import UserError
from kd_dist.model_files.encoder_weights import BASE_PREFIXES, fit
from kd_dist.model_files.weight_files import Shapes, first_weights, json_object, pointer_problem, tensor_shapes

CONFIG_NAMES = ("config.json", "bert_config.json")  # the second as Google and HFL published theirs

# What the first BERT configurations say, which had no `model_type`.
BERT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
FIELDS_OF_OTHERS = (
    "embedding_size",
    "num_hidden_groups",
    "inner_group_num",
    "n_layers",
    "is_encoder_decoder",
    "use_relative_position",  # of NEZHA as it was first published
)

TINYBERT_PROJECTION = "fit_dense"
"""The layer of TinyBERT's published code that takes hidden states to the teacher's width."""


def config_file(folder: Path) -> Path | None:
    """Return the configuration of a model folder, whatever its name; None if there is none."""
    return next((folder / name for name in CONFIG_NAMES if (folder / name).is_file()), None)


def is_bert_without_type(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration without `model_type` has the fields of BERT's, and none of another family's."""
    architectures = config.get("architectures") or ["Bert"]
    return (
        not config.get("model_type")
        and all(isinstance(config.get(field), int) for field in BERT_FIELDS)
        and config["type_vocab_size"] > 1  # RoBERTa's have one segment
        and not any(field in config for field in FIELDS_OF_OTHERS)
        and all(name.startswith("Bert") for name in architectures)
    )


def with_model_type(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that says it is BERT's if it has BERT's fields and no `model_type`."""
    return {**config, "model_type": "bert"} if is_bert_without_type(config) else dict(config)


def untyped_problem(config: Mapping[str, Any]) -> str | None:
    """Return a message on what a configuration without `model_type` must add; None if it has one."""
    if config.get("model_type"):
        return None
    return (
        f"has no model_type in its config.json, and not BERT's fields ({', '.join(BERT_FIELDS)}): add "
        f'"model_type": one of {", ".join(ALL_FAMILIES)}'
    )


def read_model_config(folder: Path) -> dict[str, Any]:
    """Read the configuration of a model folder, with BERT's names of its settings and what it leaves out.

    A BERT that names no architecture but has a classification head is a classifier with as many labels.

    Raises:
        UserError: There is no configuration, it is damaged, or weights that are asked about are.
    """
    file = config_file(folder)
    if file is None:
        raise UserError(f"{folder} holds no config.json: not a Hugging Face directory")
    if problem := pointer_problem(folder):
        raise UserError(f"{folder}/{problem}")
    config = with_common_names(with_model_type(json_object(file.read_bytes(), file)))
    if config.get("architectures") or unsupported(config) or first_weights(folder) is None:
        return config
    return config | _head_facts(tensor_shapes(folder), config, folder)


def _head_facts(shapes: Shapes, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the architecture and the number of labels of weights with a classification head on the pooler.

    TinyBERT's published code puts a ReLU before its head, which no class of transformers has.
    """
    family = config["model_type"]
    if FAMILIES[family].classifier_head != "pooled" or any(TINYBERT_PROJECTION in name for name in shapes):
        return {}
    if "num_hidden_layers" not in config:
        return {}
    prefix, base = fit(shapes, config, str(folder)).prefix, BASE_PREFIXES[family]
    head = shapes.get(f"{prefix}classifier.weight", ())
    if len(head) != 2 or head[0] < 2 or f"{prefix}{base}.pooler.dense.weight" not in shapes:
        return {}
    named = {} if config.get("id2label") else {"num_labels": head[0]}
    return {"architectures": [f"{base.capitalize()}ForSequenceClassification"], **named}


def model_notes(folder: Path) -> list[str]:
    """Return what was made of a folder that is not as transformers writes it, a line each.

    Raises:
        UserError: The configuration or the weights cannot be used.
    """
    file = config_file(folder)
    if file is None:
        return []
    notes, raw = [], json_object(file.read_bytes(), file)
    if file.name != CONFIG_NAMES[0]:
        notes.append(f"{folder}: {file.name} is read, there is no config.json")
    if is_bert_without_type(raw):
        notes.append(f"{folder}: {file.name} has no model_type but BERT's fields, so it is taken for a BERT")
    config = with_common_names(with_model_type(raw))
    if unsupported(config) or "num_hidden_layers" not in config or first_weights(folder) is None:
        return notes
    shapes = tensor_shapes(folder)
    prefix = fit(shapes, config, str(folder)).prefix
    if prefix:
        notes.append(f"{folder}: the names of its tensors begin with `{prefix}`, which is taken off")
    layers, used = _num_layers(shapes, config), config["num_hidden_layers"]
    if layers > used:
        notes.append(
            f"{folder}: its weights have {layers} layers, its {file.name} says {used}: the first {used} are used"
        )
    return notes


def _num_layers(shapes: Shapes, config: Mapping[str, Any]) -> int:
    """Count the layers of weights; 0 where layers share theirs."""
    if config["model_type"] == "albert":
        return 0
    where = f"{FAMILIES[config['model_type']].layers}."
    numbers = [name.split(where, 1)[1].split(".")[0] for name in shapes if where in name]
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)
