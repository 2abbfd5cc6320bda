"""Load pretrained weights with transformers: the one place that does so, and that checks what was loaded."""

import inspect
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from kd_dist.config.families import unsupported
from kd_dist.data.quiet import quietly
from kd_dist.errors import UserError, first_line
from kd_dist.model_files.encoder_weights import modern_name, require_fit
from kd_dist.model_files.model_configs import (
    config_file,
    is_bert_without_type,
    model_notes,
    read_model_config,
    with_model_type,
)
from kd_dist.model_files.weight_files import json_object, tensor_shapes, weight_files
from kd_dist.models.ensemble import EnsembleConfig, EnsembleForSequenceClassification
from kd_dist.models.nezha import (
    NezhaConfig,
    NezhaForMaskedLM,
    NezhaForSequenceClassification,
    NezhaModel,
)
from kd_dist.models.padding import refuse_dependence_on_padding
from kd_dist.models.recurrent import RecurrentConfig, RecurrentForSequenceClassification
from kd_dist.models.text_gcn import TextGcnConfig, TextGcnForSequenceClassification

# What damaged files raise, and those that hold something else than tensors.
UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
    AttributeError,
    TypeError,
    SafetensorError,
    pickle.UnpicklingError,
)

AutoConfig.register(RecurrentConfig.model_type, RecurrentConfig)
AutoModelForSequenceClassification.register(RecurrentConfig, RecurrentForSequenceClassification)
AutoConfig.register(TextGcnConfig.model_type, TextGcnConfig)
AutoModelForSequenceClassification.register(TextGcnConfig, TextGcnForSequenceClassification)
AutoConfig.register(EnsembleConfig.model_type, EnsembleConfig)
AutoModelForSequenceClassification.register(EnsembleConfig, EnsembleForSequenceClassification)
AutoConfig.register(NezhaConfig.model_type, NezhaConfig)
AutoModel.register(NezhaConfig, NezhaModel)
AutoModelForMaskedLM.register(NezhaConfig, NezhaForMaskedLM)
AutoModelForSequenceClassification.register(NezhaConfig, NezhaForSequenceClassification)


@dataclass(frozen=True)
class Loaded:
    """A model, and the names of the tensors that its weights do not hold, which are random: never the encoder's."""

    model: PreTrainedModel
    new: list[str]
    unused: list[str]
    reshaped: list[str]
    """Those of the new ones that the weights have in another shape, with both shapes."""

    def require_trained_head(self, path: str, no_head: Callable[[str], str]) -> PreTrainedModel:
        """Return the model.

        Args:
            path: Where it comes from, for messages.
            no_head: Says, with the reason, that there is no such model in this folder.

        Raises:
            UserError: Its head is not among the weights, or is for another number of labels.
        """
        if self.reshaped:
            raise UserError(
                f"the weights in {path} cannot be loaded, they are not those of its config.json: "
                f"{', '.join(self.reshaped[:3])}"
            )
        if self.new:
            raise UserError(no_head(f"its weights lack {', '.join(self.new[:4])}"))
        return self.model

    def note_new_heads(self, path: str) -> PreTrainedModel:
        """Return the model, and say in one line which of its modules start from random weights."""
        if self.new:
            heads = dict.fromkeys(_head_of(name, self.model) for name in self.new)
            print_note(f"{', '.join(heads)}: new, with random weights to be trained; {path} has none that fit")
        return self.model


def load_config(path: str | Path) -> PretrainedConfig:
    """Load the configuration of a model folder or hub name; a folder's is completed as `read_model_config` says.

    Raises:
        UserError: There is none, or transformers refuses it.
    """
    file = config_file(Path(path))
    if file is None:
        return _transformers_config(path)
    config, content, raw = load_config_file(file), read_model_config(Path(path)), json_object(file.read_bytes(), file)
    config.update({key: content[key] for key in ("architectures", "num_labels") if key in content and key not in raw})
    return config


def load_config_file(file: Path) -> PretrainedConfig:
    """Load a configuration from its file; one with BERT's fields and no `model_type` is BERT's.

    Raises:
        UserError: The file is damaged, or transformers refuses it.
    """
    raw = json_object(file.read_bytes(), file)
    return BertConfig.from_dict(with_model_type(raw)) if is_bert_without_type(raw) else _transformers_config(file)


def _transformers_config(path: str | Path) -> PretrainedConfig:
    try:
        config = AutoConfig.from_pretrained(str(path), trust_remote_code=False)  # or it asks, and reads stdin for it
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be used: {first_line(error)}") from error
    if hasattr(config, "auto_map"):  # code of others, which no export is to ask for; code of ours names itself in it
        del config.auto_map
    if hasattr(config, "use_mems_eval"):  # XLNet's states of earlier texts, which transformers' pipeline takes for rows
        config.update({"use_mems_eval": False, "use_mems_train": False})
    return config


def load_pretrained(mapping: Any, path: str, config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> Loaded:
    """Load the weights of a folder into the class that one of transformers' mappings has for a configuration.

    Args:
        mapping: Of configurations to classes, such as transformers' `MODEL_MAPPING`.
        path: The folder, or a hub name.
        config: What the model is to be: fewer layers than the folder's, or a head for other labels.
        dtype: Of the weights in memory.

    Raises:
        UserError: The weights cannot be read, tensors of the encoder are not among them, or padding changes what a
            classifier predicts.
    """
    model_class = class_for(mapping, config, path)
    options = without_pooler(model_class) | {"ignore_mismatched_sizes": True, "output_loading_info": True}
    tensors = _renamed_tensors(path)
    try:
        with quietly():
            model, found = model_class.from_pretrained(
                path if tensors is None else None, config=config, dtype=dtype, state_dict=tensors, **options
            )
    except UNREADABLE as error:
        raise UserError(_unreadable(path, error)) from error
    other = {name: f"{name} {list(there)}, not {list(wanted)}" for name, there, wanted in found["mismatched_keys"]}
    new = sorted({*found["missing_keys"], *other})
    _refuse_random_encoder(model, new, path)
    if mapping is MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        refuse_dependence_on_padding(model, path)
    return Loaded(model, new, sorted(found["unexpected_keys"]), [other[name] for name in sorted(other)])


def class_for(mapping: Any, config: PretrainedConfig, origin: str) -> Any:
    """Return the class that one of transformers' mappings has for a configuration.

    Raises:
        UserError: It has none.
    """
    if type(config) in mapping:
        return mapping[type(config)]
    kind = "classifier" if mapping is MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING else "model with such a head"
    raise UserError(f"{origin} is a `{config.model_type}` model, of which transformers has no {kind}")


def _renamed_tensors(path: str) -> dict[str, Tensor] | None:
    """Return the tensors of a folder by today's names, without a prefix; None where the files have these.

    transformers could rename them as well, but it would name them as of old again wherever the model is saved.
    """
    folder = Path(path)
    if not folder.is_dir():
        return None
    config = read_model_config(folder)
    if unsupported(config):  # a model with branches, whose loader checks them
        return None
    for note in model_notes(folder):
        print_note(note)
    shapes = tensor_shapes(folder)
    prefix = require_fit(shapes, config, path).prefix
    names = {name: modern_name(name).removeprefix(prefix) for name in shapes}
    if all(old == new for old, new in names.items()):
        return None
    return {names[name]: tensor for name, tensor in load_tensors(folder, list(names)).items()}


def _refuse_random_encoder(model: PreTrainedModel, new: list[str], path: str) -> None:
    if model.config.to_dict().get("backbone"):  # a model with branches, whose loader checks them
        return
    base = model.base_model  # of a recurrent model the whole
    prefix = "" if base is model else f"{model.base_model_prefix}."
    encoder = [
        f"{prefix}{name}"
        for name in base.state_dict()
        if not name.startswith(("pooler.", "classifier."))
        and name != "encoder.embed_positions.weight"  # RoFormer's sines
    ]
    random = [name for name in encoder if name in set(new)]
    if random:
        raise UserError(
            f"{len(random)} of {len(encoder)} tensors of the encoder are not in the weights in {path} "
            f"({', '.join(random[:3])}) and would stay random: copy the config.json and the weights of one model"
        )


def without_pooler(model_class: Any) -> dict[str, bool]:
    """Return the option that leaves out a pooler, which nothing here would train or read."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(model_class).parameters else {}


def _head_of(name: str, model: PreTrainedModel) -> str:
    return name.removeprefix(f"{model.base_model_prefix}.").split(".")[0]


@lru_cache(maxsize=256)
def print_note(note: str) -> None:
    """Print a note once, on one rank."""
    if os.environ.get("RANK", "0") == "0":
        print(f"note: {note}", file=sys.stderr, flush=True)


def load_tensors(folder: Path, names: list[str]) -> dict[str, Tensor]:
    """Load some tensors of a model folder by their names in the files.

    Raises:
        UserError: A file cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    try:
        for file in weight_files(folder):
            if file.suffix == ".safetensors":
                with safe_open(file, "pt") as content:
                    tensors |= {name: content.get_tensor(name) for name in names if name in content.keys()}  # noqa: SIM118
            else:
                content = torch.load(file, map_location="cpu", weights_only=True)
                tensors |= {name: content[name] for name in names if name in content}
    except UNREADABLE as error:
        raise UserError(_unreadable(folder, error)) from error
    return tensors


def _unreadable(folder: str | Path, error: BaseException) -> str:
    if isinstance(error, pickle.UnpicklingError):  # whose own message advises to load them unsafely
        return (
            f"the weights in {folder} hold more than tensors, and to load that could run code: save the tensors alone, "
            "where you trust them: torch.save(model.state_dict(), 'pytorch_model.bin')"
        )
    return f"the weights in {folder} cannot be loaded: {first_line(error)}"
