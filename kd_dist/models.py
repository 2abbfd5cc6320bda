"""Teacher and student: load one, build the other, and run either for just what an objective wants to see.

Shapes: B batch, S sequence, D width.
"""

import copy
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
)

from kd_dist.attention import Attention, capture_attention, run_with_attention
from kd_dist.config import model_config_file
from kd_dist.metrics import align_labels, columns_by_name
from kd_dist.sections import Student
from kd_dist.stages import TrainStage

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Wanted:
    """What an objective needs from a model. Layers count from 1; hidden state 0 is the embedding output."""

    hidden_states: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()
    logits: bool = False

    def last_layer(self) -> int:
        return max([0, *self.hidden_states, *self.attention])


@dataclass(frozen=True)
class Encoded:
    """What a model computed and was wanted: hidden states (B, S, D) and attention factors by layer, logits (B, C)."""

    hidden_states: dict[int, Tensor]
    attention: dict[int, Attention]
    logits: Tensor | None = None


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What of a batch a model takes as it is: token types only where it tells two of them apart."""
    has_types = getattr(model.config, "type_vocab_size", 0) > 1
    names = ("input_ids", "attention_mask", *(["token_type_ids"] if has_types else []))
    return {name: batch[name] for name in names if name in batch}


def encode(model: nn.Module, batch: Batch, wanted: Wanted) -> Encoded:
    """Run an encoder that `capture_attention` has prepared."""
    outputs, attention = run_with_attention(
        model,
        wanted.attention,
        **model_inputs(model, batch),
        output_hidden_states=True,
    )
    return Encoded({layer: outputs.hidden_states[layer] for layer in wanted.hidden_states}, attention)


class Teacher:
    """A frozen encoder in eval mode, outside optimizer, ZeRO, autograd and checkpoints.

    Only the layers up to the last one that is wanted are loaded, so nothing beyond it is ever computed. Where logits
    are wanted it is a whole classifier; `label2id` then says in which order its classes are handed out.

    Raises:
        UserError: the teacher predicts other labels than these.
    """

    def __init__(
        self,
        path: str,
        wanted: Wanted,
        *,
        precision: str,
        device: torch.device,
        label2id: Mapping[str, int] | None = None,
    ) -> None:
        self.wanted = wanted
        config = AutoConfig.from_pretrained(path)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._columns: list[int] | None = None
        if wanted.logits:
            self._columns = align_labels(columns_by_name(config.id2label), label2id) if label2id else None
        else:
            config.num_hidden_layers = wanted.last_layer()
        load = AutoModelForSequenceClassification if wanted.logits else AutoModel
        self.model: PreTrainedModel = _quietly(load.from_pretrained, path, config=config, dtype=dtype)
        capture_attention(self.model)
        self.model.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Encoded:
        if not self.wanted.logits:
            return encode(self.model, batch, self.wanted)
        logits_BC = self.model(**model_inputs(self.model, batch)).logits.float()
        return Encoded({}, {}, logits_BC if self._columns is None else logits_BC[:, self._columns])


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


def build_encoder(stage: TrainStage, tokenizer: Any) -> PreTrainedModel:
    """An encoder without a pooler, which distillation of layers would leave untrained."""
    return _build(MODEL_MAPPING, stage, tokenizer)


def build_masked_language_model(stage: TrainStage, tokenizer: Any) -> PreTrainedModel:
    return _build(MODEL_FOR_MASKED_LM_MAPPING, stage, tokenizer)


def build_classifier(stage: TrainStage, tokenizer: Any, settings: Mapping[str, Any]) -> PreTrainedModel:
    """An encoder with a classification head; `settings` are transformers' names for the labels and the task."""
    return _build(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, stage, tokenizer, **settings)


def output_layer(classifier: PreTrainedModel) -> nn.Linear:
    """The layer that gives a classifier's logits: its head, or the last linear one of a head of several."""
    head: Any = classifier.classifier
    return [module for module in head.modules() if isinstance(module, nn.Linear)][-1]


def _build(mapping: Any, stage: TrainStage, tokenizer: Any, **settings: Any) -> PreTrainedModel:
    """The stage's student, or its teacher where it has no student: random, pretrained, or out of teacher layers."""
    student = stage.student or Student(path=stage.teacher.path if stage.teacher else None)
    if student.path is not None:
        model = _load(mapping, student.path, AutoConfig.from_pretrained(student.path), settings)
    elif student.teacher_layers is not None:
        assert stage.teacher is not None
        model = _from_teacher_layers(mapping, stage.teacher.path, student.teacher_layers, settings)
    else:
        config = student_config(student.config, tokenizer)
        config.update(settings)
        model = random_model(mapping, config)
    capture_attention(model)
    if stage.engine.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def random_model(mapping: Any, config: PretrainedConfig) -> PreTrainedModel:
    """A model with random weights, of the class that one of transformers' mappings has for this architecture."""
    model_class = mapping[type(config)]
    model = model_class(config, **_without_pooler(model_class))
    capture_attention(model)
    return model


def _without_pooler(model_class: Any) -> dict[str, bool]:
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(model_class).parameters else {}


def _load(mapping: Any, path: str, config: PretrainedConfig, settings: Mapping[str, Any]) -> PreTrainedModel:
    """Pretrained weights; a head that they lack, or that is for another number of labels, is new."""
    config.update(settings)
    model_class = mapping[type(config)]
    options = _without_pooler(model_class) | {"ignore_mismatched_sizes": True, "dtype": torch.float32}
    return _quietly(model_class.from_pretrained, path, config=config, **options)


def _from_teacher_layers(mapping: Any, path: str, layers: list[int], settings: Mapping[str, Any]) -> PreTrainedModel:
    """A student as wide as the teacher, whose layer i starts as the teacher's layer `layers[i - 1]`."""
    whole = _load(mapping, path, AutoConfig.from_pretrained(path), settings)
    config = copy.deepcopy(whole.config)
    config.num_hidden_layers = len(layers)
    student = random_model(mapping, config)
    weights = whole.state_dict()

    def source(name: str) -> str:
        return re.sub(r"\blayer\.(\d+)\.", lambda found: f"layer.{layers[int(found[1])] - 1}.", name, count=1)

    student.load_state_dict({name: weights[source(name)] for name in student.state_dict()})
    return student


def load_tokenizer(path: str | Path) -> Any:
    return AutoTokenizer.from_pretrained(str(path))


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
