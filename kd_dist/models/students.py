"""Build the model that a stage trains."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
)

from kd_dist.config.families import FAMILIES
from kd_dist.config.paths import model_config_file
from kd_dist.config.sections.models import Student
from kd_dist.config.stages import TrainStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.preprocessing import num_token_types
from kd_dist.errors import UserError
from kd_dist.models import projected, pruned
from kd_dist.models.attention import capture_attention
from kd_dist.models.loading import class_for, load_config, load_config_file, load_pretrained, print_note, without_pooler
from kd_dist.models.padding import refuse_dependence_on_padding


def student_config(name: str, tokenizer: Any) -> PretrainedConfig:
    """Return the architecture `name` (`student.config`) with the vocabulary and padding token of `tokenizer`.

    A student that tells two segments apart gets as many token types as the tokenizer has.
    """
    config = load_config_file(model_config_file(name))
    # Vocabularies sometimes name ids beyond their length: every id must have an embedding.
    config.vocab_size = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
    config.pad_token_id = tokenizer.pad_token_id
    if getattr(config, "type_vocab_size", 0) > 1:
        config.type_vocab_size = max(config.type_vocab_size, num_token_types(tokenizer))
    return config


def build_encoder(stage: TrainStage, tokenizer: Any) -> PreTrainedModel:
    """Build an encoder without a pooler, which distillation of layers would leave untrained."""
    return build_initialized_encoder(stage, tokenizer)[0]


def build_initialized_encoder(stage: TrainStage, tokenizer: Any) -> tuple[PreTrainedModel, Tensor | None]:
    """Build the same encoder, and return with it the matrix (D, E) by which it has its donor's embeddings.

    None where they have another origin; D is the donor's width.
    """
    return _build(MODEL_MAPPING, stage, tokenizer)


def build_masked_language_model(stage: TrainStage, tokenizer: Any) -> PreTrainedModel:
    """Build an encoder with a head that predicts masked words."""
    return _build(MODEL_FOR_MASKED_LM_MAPPING, stage, tokenizer)[0]


def build_language_model(stage: TrainStage, tokenizer: Any) -> PreTrainedModel:
    """Build an encoder with a head that predicts words in an order, such as XLNet's."""
    return _build(MODEL_FOR_CAUSAL_LM_MAPPING, stage, tokenizer)[0]


def build_classifier(stage: TrainStage, tokenizer: Any, settings: Mapping[str, Any]) -> PreTrainedModel:
    """Build an encoder with a classification head; `settings` are transformers' names for the labels and the task."""
    return _build(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, stage, tokenizer, **settings)[0]


def output_layer(classifier: PreTrainedModel) -> nn.Linear:
    """Return the layer that gives a classifier's logits: its head, or the last linear layer of a head of several."""
    encoder = f"{classifier.base_model_prefix}."
    linear = [
        module
        for name, module in classifier.named_modules()
        if isinstance(module, nn.Linear) and not (encoder != "." and name.startswith(encoder))
    ]
    return [module for module in linear if module.out_features == classifier.config.num_labels][-1]


def _build(mapping: Any, stage: TrainStage, tokenizer: Any, **settings: Any) -> tuple[PreTrainedModel, Tensor | None]:
    """Build the stage's student, or load the encoder of one without: pretrained, from a donor's weights, or random.

    With it comes what `build_initialized_encoder` returns.
    """
    directions_DE = None
    student = stage.student or Student(path=stage.encoder.path if stage.encoder else None)
    if student.path is not None:
        model = _load(mapping, student.path, load_config(student.path), settings)
    elif student.teacher_layers is not None:
        donor = stage.donor_path()
        assert donor is not None
        model = _from_layers(mapping, donor, student.teacher_layers, settings)
    else:
        config = student_config(student.config, tokenizer)
        config.update(settings)
        if student.input == "sentence":
            config.update({"input": "sentence", "sep_token_id": tokenizer.sep_token_id})
        model = _word_reader(mapping, stage, config) if stage.reads_words() else random_model(mapping, config)
        if (donor := stage.initialized_from()) is not None:
            directions_DE = _initialize(model, donor, student.init)
    _prepare(model)
    if stage.engine.activation_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise UserError(
                f"engine.activation_checkpointing=true: transformers cannot recompute the layers of a "
                f"`{model.config.model_type}` model; leave it out"
            )
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model, directions_DE


def _word_reader(mapping: Any, stage: TrainStage, config: PretrainedConfig) -> PreTrainedModel:
    """Return a student of random weights, except the vectors of its words where they are known."""
    vectors_VE = PreparedRows(Path(stage.data.tokens)).word_vectors()
    if vectors_VE is None:
        return random_model(mapping, config)
    config.update({"embedding_size": vectors_VE.shape[1]})
    model = random_model(mapping, config)
    model.get_input_embeddings().weight.data.copy_(torch.from_numpy(vectors_VE))
    return model


def _initialize(student: PreTrainedModel, path: str, init: str) -> Tensor | None:
    """Start a student from its donor's weights as far as `student.init` and their architectures allow.

    What starts from random weights against `student.init` is said.
    """
    config = load_config(path)
    if problem := projected.obstacle(config, student.config):
        print_note(f"the student starts from random weights, not from those of {path}: {problem}")
        return None
    donor = load_pretrained(MODEL_MAPPING, path, config).model
    if init == "projected":
        return projected.project(donor, student)
    if problem := pruned.obstacle(config, student.config):
        print_note(f"the student takes the embeddings of {path}, and no layers: {problem}")
        return projected.project(donor, student)
    return pruned.prune(donor, student)


def random_model(mapping: Any, config: PretrainedConfig) -> PreTrainedModel:
    """Return a model with random weights, of the class that one of transformers' mappings has for an architecture."""
    origin = f"student.config={config.model_type}"
    model_class = class_for(mapping, config, origin)
    model = model_class(config, **without_pooler(model_class))
    if mapping is MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        refuse_dependence_on_padding(model, origin)
    _prepare(model)
    return model


def _prepare(model: PreTrainedModel) -> None:
    if model.config.model_type in FAMILIES:  # others have predictions alone
        capture_attention(model)


def _load(mapping: Any, path: str, config: PretrainedConfig, settings: Mapping[str, Any]) -> PreTrainedModel:
    """Load pretrained weights; a head that they lack, or that is for another number of labels, is new."""
    config.update(settings)
    return load_pretrained(mapping, path, config).note_new_heads(path)


def _from_layers(mapping: Any, path: str, layers: list[int], settings: Mapping[str, Any]) -> PreTrainedModel:
    """Build a student as wide as the donor, whose layer i starts as the donor's layer `layers[i - 1]`."""
    whole = _load(mapping, path, load_config(path), settings)
    config = copy.deepcopy(whole.config)
    config.num_hidden_layers = len(layers)
    student = random_model(mapping, config)
    weights = whole.state_dict()

    where = re.compile(r"(\blayers?)\.(\d+)\.")

    def source(name: str) -> str:
        return where.sub(lambda found: f"{found[1]}.{layers[int(found[2])] - 1}.", name, count=1)

    student.load_state_dict({name: weights[source(name)] for name in student.state_dict()})
    return student


def num_parameters(model: nn.Module) -> int:
    """Return the number of weights."""
    return sum(parameter.numel() for parameter in model.parameters())
