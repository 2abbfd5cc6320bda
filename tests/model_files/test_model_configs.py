"""Configurations of old: without `model_type`, of another name, without the head that the weights have."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_dist.errors import UserError
from kd_dist.model_files.encoder_weights import encoder_shapes
from kd_dist.model_files.model_configs import is_bert_without_type, model_notes, read_model_config, untyped_problem
from kd_dist.model_files.model_folders import (
    has_classifier_head,
    has_language_model_head,
    label_names,
    read_classifier_config,
)
from tests.model_folders import write_header

BERT = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
}
ENCODER = {f"bert.{name}": shape for name, shape in encoder_shapes(BERT | {"model_type": "bert"}).items()}
POOLER = {"bert.pooler.dense.weight": (8, 8), "bert.pooler.dense.bias": (8,)}
HEAD = {"classifier.weight": (3, 8), "classifier.bias": (3,)}


def folder(place: Path, shapes: dict[str, Any], config: dict[str, Any], name: str = "config.json") -> Path:
    (place / name).write_text(json.dumps(config), encoding="utf-8")
    write_header(place, shapes)
    return place


@pytest.mark.parametrize(
    ("changed", "is_bert"),
    [
        ({}, True),
        ({"emb_size": 8, "structure": [], "pre_trained": ""}, True),  # as TinyBERT was published
        ({"architectures": ["BertForMaskedLM"]}, True),
        ({"architectures": ["RobertaForMaskedLM"]}, False),
        ({"type_vocab_size": 1}, False),  # RoBERTa's
        ({"embedding_size": 4, "num_hidden_groups": 1}, False),  # ALBERT's
        ({"use_relative_position": True, "max_relative_position": 64}, False),  # NEZHA's
        ({"intermediate_size": None}, False),
        ({"model_type": "electra"}, False),
    ],
)
def test_berts_fields_make_a_bert(changed: dict[str, Any], is_bert: bool):
    assert is_bert_without_type(BERT | changed) == is_bert


def test_what_is_no_bert_is_told_to_say_what_it_is():
    problem = untyped_problem({"hidden_size": 8}) or ""
    assert '"model_type": one of albert, bert' in problem
    assert ", nezha, " in problem
    assert untyped_problem({"model_type": "gpt2"}) is None


def test_a_configuration_of_another_name(tmp_path: Path):
    folder(tmp_path, ENCODER, BERT, name="bert_config.json")
    assert read_model_config(tmp_path)["model_type"] == "bert"
    first, second = model_notes(tmp_path)
    assert first.endswith("bert_config.json is read, there is no config.json")
    assert "no model_type but BERT's fields" in second


def test_config_json_counts_where_both_are_there(tmp_path: Path):
    folder(tmp_path, ENCODER, BERT | {"model_type": "bert"})
    (tmp_path / "bert_config.json").write_text("{}")
    assert read_model_config(tmp_path)["hidden_size"] == 8
    assert model_notes(tmp_path) == []


def test_no_configuration(tmp_path: Path):
    with pytest.raises(UserError, match="holds no config.json"):
        read_model_config(tmp_path)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_head_that_the_configuration_does_not_name(prefix: str, tmp_path: Path):
    shapes = {prefix + name: shape for name, shape in (ENCODER | POOLER | HEAD).items()}
    folder(tmp_path, shapes, BERT)
    assert has_classifier_head(str(tmp_path))
    assert label_names(read_classifier_config(tmp_path)) == ["LABEL_0", "LABEL_1", "LABEL_2"]


@pytest.mark.parametrize(
    "shapes",
    [
        ENCODER | POOLER,
        ENCODER | HEAD,  # without a pooler: labels of tokens
        ENCODER | POOLER | HEAD | {"fit_dense.weight": (16, 8)},  # TinyBERT's code: a ReLU before the head
        ENCODER | POOLER | {"classifier.weight": (1, 8)},  # multiple choice
    ],
)
def test_heads_that_are_not_berts_classifier(shapes: dict[str, Any], tmp_path: Path):
    assert not has_classifier_head(str(folder(tmp_path, shapes, BERT)))


def test_a_language_model_head_in_pickled_weights(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(BERT), encoding="utf-8")
    names = [*ENCODER, "cls.predictions.bias"]
    torch.save({f"module.{name}": torch.zeros(1) for name in names}, tmp_path / "pytorch_model.bin")
    assert has_language_model_head(str(tmp_path))
    torch.save({name: torch.zeros(1) for name in ENCODER}, tmp_path / "pytorch_model.bin")
    assert not has_language_model_head(str(tmp_path))


def test_layers_that_are_left_out_are_said(tmp_path: Path):
    folder(tmp_path, ENCODER, BERT | {"model_type": "bert", "num_hidden_layers": 1})
    assert [note.split(": ", 1)[1] for note in model_notes(tmp_path)] == [
        "its weights have 2 layers, its config.json says 1: the first 1 are used"
    ]
