"""Damaged model folders are one clear message; heads of real models are tested in tests/augmentation."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kd_dist.config.families import FAMILIES
from kd_dist.errors import UserError
from kd_dist.model_files.model_folders import (
    encoder_config,
    has_classifier_head,
    has_language_model_head,
    label_names,
    num_positions,
    read_classifier_config,
    task_of,
)

POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"
)


def test_a_pointer_in_place_of_a_file(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_text(POINTER, encoding="utf-8")
    for asked in (has_language_model_head, has_classifier_head):
        with pytest.raises(UserError, match=r"model.safetensors: only a pointer of Git LFS .*&& git lfs pull"):
            asked(str(tmp_path))


@pytest.mark.parametrize("content", [b"", (10**6).to_bytes(8, "little") + b'{"a": {}', b"\x02"])
def test_weights_that_cannot_be_read(content: bytes, tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(
        UserError, match=r"model.safetensors: damaged, or only a Git LFS pointer \(.*copy the file again"
    ):
        has_language_model_head(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"architectures": [', "damaged"),
        ("[]", "expected a JSON object, found a list"),
    ],
)
def test_a_configuration_that_cannot_be_read(content: str, message: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    for asked in (has_language_model_head, has_classifier_head):
        with pytest.raises(UserError, match=f"config.json: {message}"):
            asked(str(tmp_path))


@pytest.mark.parametrize("family", FAMILIES)
def test_login_node_and_models_agree_on_the_positions(family: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(family)
    offset = config.pad_token_id + 1 if FAMILIES[family].offset_positions else 0
    assert num_positions(config.to_dict()) == config.max_position_embeddings - offset


def test_the_encoder_inside_a_model_with_branches_is_described() -> None:
    backbone = {"model_type": "distilbert", "n_layers": 6, "max_position_embeddings": 64}
    assert encoder_config({"model_type": "fastbert", "backbone": backbone})["num_hidden_layers"] == 6
    assert num_positions({"model_type": "fastbert", "backbone": backbone}) == 64
    assert encoder_config(backbone) == backbone


def test_labels_are_in_the_order_of_their_numbers() -> None:
    names = {str(number): f"l{number}" for number in (10, 9, 1, 0)}
    assert label_names({"id2label": names}) == ["l0", "l1", "l9", "l10"]
    assert label_names({"id2label": {"0": "科技\ud83d", "1": "😀"}}) == ["科技", "😀"]
    assert label_names({"num_labels": 3}) == ["LABEL_0", "LABEL_1", "LABEL_2"]


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({}, "single_label"),
        ({"num_labels": 1}, "regression"),
        ({"problem_type": "multi_label_classification", "num_labels": 1}, "multi_label"),
        ({"problem_type": "regression"}, "regression"),
    ],
)
def test_the_task_of_a_classifier(config: dict[str, object], task: str) -> None:
    assert task_of(config) == task


def test_a_folder_that_is_not_a_classifier_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "run" / "export").mkdir(parents=True)
    (tmp_path / "run" / "export" / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    for folder, message in (
        (tmp_path / "none", "none does not exist; give the folder of a trained classifier"),
        (tmp_path / "run", f"run has no config.json; did you mean `{tmp_path / 'run' / 'export'}`"),
        (tmp_path / "run" / "export", "its config.json names BertModel; give the export of `--job finetune"),
    ):
        with pytest.raises(UserError, match=message):
            read_classifier_config(folder)


@pytest.mark.parametrize(
    ("architecture", "has_head"), [("BertForMaskedLM", True), ("BertModel", False), ("ElectraForPreTraining", False)]
)
def test_masked_language_models_by_their_architecture(architecture: str, has_head: bool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": [architecture]}))
    assert has_language_model_head(str(tmp_path)) == has_head


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertModel"])
def test_the_weights_decide_on_the_masked_head(architecture: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": [architecture]}))
    save_file({"bert.embeddings.word_embeddings.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    assert not has_language_model_head(str(tmp_path))
    save_file({"cls.predictions.transform.dense.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    assert has_language_model_head(str(tmp_path))
