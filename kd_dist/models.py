"""Teacher and student: load one, build the other, and run either for just what an objective wants to see.

Shapes: B batch, S sequence, D width.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING

from kd_dist.attention import Attention, capture_attention, run_with_attention
from kd_dist.config import model_config_file
from kd_dist.sections import Engine

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Wanted:
    """What an objective needs from a model. Layers count from 1; hidden state 0 is the embedding output."""

    hidden_states: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()

    def last_layer(self) -> int:
        return max([0, *self.hidden_states, *self.attention])


@dataclass(frozen=True)
class Encoded:
    """What a model computed: the hidden states (B, S, D) and attention factors that were wanted, by layer."""

    hidden_states: dict[int, Tensor]
    attention: dict[int, Attention]


def encode(model: nn.Module, batch: Batch, wanted: Wanted) -> Encoded:
    """Run an encoder that `capture_attention` has prepared."""
    outputs, attention = run_with_attention(
        model,
        wanted.attention,
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        output_hidden_states=True,
    )
    return Encoded({layer: outputs.hidden_states[layer] for layer in wanted.hidden_states}, attention)


class Teacher:
    """A frozen encoder in eval mode, outside optimizer, ZeRO, autograd and checkpoints.

    Only the layers up to the last one that is wanted are loaded, so nothing beyond it is ever computed.
    """

    def __init__(self, path: str, wanted: Wanted, *, precision: str, device: torch.device) -> None:
        self.wanted = wanted
        config = AutoConfig.from_pretrained(path)
        config.num_hidden_layers = wanted.last_layer()
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.model: PreTrainedModel = _quietly(AutoModel.from_pretrained, path, config=config, dtype=dtype)
        capture_attention(self.model)
        self.model.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Encoded:
        return encode(self.model, batch, self.wanted)


def _quietly(load: Any, *arguments: Any, **options: Any) -> Any:
    """Loading only some layers is meant: no table of the weights that were left out."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return load(*arguments, **options)
    finally:
        logging.set_verbosity(before)


def student_config(name: str, tokenizer: Any) -> PretrainedConfig:
    """The architecture `name` (`student.config`) with the vocabulary and padding token of `tokenizer`."""
    config = AutoConfig.from_pretrained(str(model_config_file(name)))
    # Vocabularies sometimes name ids beyond their length: every id must have an embedding.
    config.vocab_size = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
    config.pad_token_id = tokenizer.pad_token_id
    return config


def build_encoder(config: PretrainedConfig, engine: Engine) -> PreTrainedModel:
    """An encoder with random weights and no pooler, which distillation of layers would leave untrained."""
    return _prepared(MODEL_MAPPING[type(config)], config, engine)


def build_masked_language_model(config: PretrainedConfig, engine: Engine) -> PreTrainedModel:
    return _prepared(MODEL_FOR_MASKED_LM_MAPPING[type(config)], config, engine)


def _prepared(model_class: Any, config: PretrainedConfig, engine: Engine) -> PreTrainedModel:
    has_pooler = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    model = model_class(config, **({"add_pooling_layer": False} if has_pooler else {}))
    capture_attention(model)
    if engine.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def load_tokenizer(path: str | Path) -> Any:
    return AutoTokenizer.from_pretrained(str(path))


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
