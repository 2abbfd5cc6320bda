"""Pretrained weights are loaded as a whole or refused: never a model that is random in part and does not say so."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
)
from transformers.utils import logging as transformers_logging

from kd_dist.augmentation.masked_words import MaskedWords
from kd_dist.config.families import ALL_FAMILIES, FAMILIES
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.sections.models import Student
from kd_dist.errors import UserError
from kd_dist.models.classifier import load_classifier
from kd_dist.models.loading import load_config, load_config_file, load_pretrained, load_tensors, print_note, quietly
from kd_dist.models.teacher import Teacher, Wanted
from tests.conftest import LabelledWorld, TinyWorld
from tests.model_files.test_pickled_weights import Attack
from tests.models.random_models import random_classifier
from tests.objectives.builders import built, stage

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _notes_anew() -> None:
    print_note.cache_clear()


@pytest.fixture
def folder(tiny: TinyWorld, tmp_path: Path) -> Path:
    """A copy of the tiny teacher, an encoder of three layers."""
    return Path(shutil.copytree(tiny.teacher, tmp_path / "model"))


def weights_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def replace_weights(folder: Path, weights: dict[str, Tensor], pickled: bool = False) -> None:
    (folder / "model.safetensors").unlink()
    if pickled:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})


def change_config(folder: Path, **settings: object) -> None:
    """Change a config.json; a setting of None is taken out."""
    content = json.loads((folder / "config.json").read_text(encoding="utf-8")) | settings
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")


def assert_encoder(model: PreTrainedModel, expected: dict[str, Tensor]) -> None:
    found = model.base_model.state_dict()
    for name in found:
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize("pickled", [True, False])
@pytest.mark.parametrize("front", ["bert.", "module.", "module.bert.", "model.", "bert.bert."])
@pytest.mark.parametrize("old_names", [True, False])
def test_a_prefix_that_fits_as_a_whole_is_taken_off(
    front: str, pickled: bool, old_names: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, ends = weights_of(folder), {"weight": "gamma", "bias": "beta"} if old_names else {}
    renamed = {}
    for name, tensor in expected.items():
        stem, end = name.rsplit(".", 1)
        renamed[f"{front}{stem}.{ends.get(end, end) if stem.endswith('LayerNorm') else end}"] = tensor
    replace_weights(folder, renamed, pickled)
    for mapping in (MODEL_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING):
        model = load_pretrained(mapping, str(folder), load_config(folder)).model
        assert_encoder(model, expected)
        model.save_pretrained(folder / "saved")
        assert set(weights_of(folder / "saved")) <= set(model.state_dict())
    assert ("is taken off" in capsys.readouterr().err) == (front != "bert.")


@pytest.mark.parametrize("pickled", [True, False])
def test_tensors_that_would_stay_random_are_refused_everywhere(
    pickled: bool, folder: Path, labelled: LabelledWorld, tmp_path: Path
) -> None:
    replace_weights(folder, {k: v for k, v in weights_of(folder).items() if "layer.2." not in k}, pickled)
    classifier = Path(shutil.copytree(labelled.teacher, tmp_path / "classifier"))
    kept = {k: v for k, v in weights_of(classifier).items() if "layer.2." not in k}
    replace_weights(classifier, kept, pickled)
    refused = (
        r"lack 16 of the 53 tensors of the encoder .*\(encoder.layer.2.\S+, encoder.layer.2.\S+, encoder.layer.2.\S+\)"
    )
    loads = (
        lambda: Teacher(str(folder), Wanted(frozenset({1})), precision="fp32", device=CPU),
        lambda: Teacher(str(classifier), Wanted(logits=True), precision="fp32", device=CPU),
        lambda: load_classifier(classifier),
        lambda: MaskedWords(str(folder), "zh", CPU),
        lambda: built(stage(labelled, FinetuneObjective(), student=Student(path=str(folder)))),
    )
    for load in loads:
        with pytest.raises(UserError, match=refused):
            load()


def test_names_of_another_framework_are_refused(folder: Path) -> None:
    replace_weights(folder, {f"h.{number}": tensor for number, tensor in enumerate(weights_of(folder).values())})
    with pytest.raises(UserError, match="no embeddings.word_embeddings.weight: 55 tensors of other names"):
        load_pretrained(MODEL_MAPPING, str(folder), load_config(folder))


def test_shapes_that_the_configuration_does_not_say(folder: Path) -> None:
    change_config(folder, vocab_size=77)
    with pytest.raises(UserError, match=r"word_embeddings.weight \[\d+, 32\], not \[77, 32\]"):
        load_pretrained(MODEL_MAPPING, str(folder), load_config(folder))


def test_a_new_head_is_said_and_a_trained_one_is_not(
    folder: Path, labelled: LabelledWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    built(stage(labelled, FinetuneObjective(), student=Student(path=str(folder))))
    assert capsys.readouterr().err == (
        f"note: classifier: new, with random weights to be trained; {folder} has none that fit\n"
    )
    built(stage(labelled, FinetuneObjective(), student=Student(path=str(labelled.teacher))))
    assert capsys.readouterr().err == ""


def test_a_masked_language_model_without_its_head(folder: Path) -> None:
    with pytest.raises(UserError, match="is no masked language model: its weights lack cls.predictions"):
        MaskedWords(str(folder), "zh", CPU)


def test_a_teacher_of_labels_without_its_head(folder: Path) -> None:
    with pytest.raises(UserError, match="is not a trained classifier: its weights lack classifier.bias"):
        Teacher(str(folder), Wanted(logits=True), precision="fp32", device=CPU)


@pytest.mark.parametrize("name", ["config.json", "bert_config.json"])
def test_a_configuration_without_type_loads_as_a_bert(name: str, folder: Path) -> None:
    expected = AutoModel.from_pretrained(folder).state_dict()
    change_config(folder, model_type=None, architectures=None)
    (folder / "config.json").rename(folder / name)
    assert load_config_file(folder / name).model_type == "bert"
    teacher = Teacher(str(folder), Wanted(frozenset({3})), precision="fp32", device=CPU)
    assert_encoder(teacher.model, expected)


def test_a_classifier_of_old_predicts(labelled: LabelledWorld, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(labelled.teacher, tmp_path / "model"))
    whole = load_classifier(folder)
    replace_weights(folder, {f"module.{name}": tensor for name, tensor in weights_of(folder).items()}, pickled=True)
    change_config(folder, model_type=None, architectures=None)
    old = load_classifier(folder)
    assert old.labels == whole.labels
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(old.model.state_dict()[name], tensor)


def test_only_the_tensors_asked_for(folder: Path) -> None:
    weights = weights_of(folder)
    names = ["embeddings.LayerNorm.bias"]
    assert torch.equal(load_tensors(folder, names)[names[0]], weights[names[0]])
    replace_weights(folder, weights, pickled=True)
    assert torch.equal(load_tensors(folder, names)[names[0]], weights[names[0]])


def test_what_is_more_than_tensors_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    replace_weights(folder, weights_of(folder) | {"attack": Attack(tmp_path / "trace")}, pickled=True)
    with pytest.raises(UserError, match="hold more than tensors, and to load that could run code"):
        load_pretrained(MODEL_MAPPING, str(folder), load_config(folder))
    assert not (tmp_path / "trace").exists()


def test_numbers_beside_the_tensors_do_no_harm(folder: Path) -> None:
    expected = weights_of(folder)
    replace_weights(folder, expected | {"epoch": 3}, pickled=True)
    assert_encoder(load_pretrained(MODEL_MAPPING, str(folder), load_config(folder)).model, expected)


def test_loading_says_nothing_and_leaves_the_verbosity_as_it_was(
    tiny: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = transformers_logging.get_verbosity()
    with quietly():
        AutoModelForSequenceClassification.from_pretrained(tiny.teacher)  # its head is missing
    assert capfd.readouterr().err == ""
    with pytest.raises(OSError, match="nowhere"), quietly():
        AutoModel.from_pretrained(str(tmp_path / "nowhere"))
    assert transformers_logging.get_verbosity() == before != logging.ERROR


@pytest.mark.parametrize("kind", sorted(ALL_FAMILIES.keys() - FAMILIES.keys()))
def test_tensors_that_other_families_lack_are_refused_as_well(kind: str, tmp_path: Path) -> None:
    model = random_classifier(kind)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    sines = {name for name in weights if name.endswith("embed_positions.weight")}  # RoFormer's, which nobody learns
    assert bool(sines) == (kind == "roformer")
    save_file({name: tensor for name, tensor in weights.items() if name not in sines}, tmp_path / "model.safetensors")
    loaded = load_pretrained(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, str(tmp_path), load_config(tmp_path)).model
    torch.testing.assert_close(dict(loaded.named_parameters()), dict(model.named_parameters()))
    layer = f"{ALL_FAMILIES[kind].layers}.1."
    save_file({name: tensor for name, tensor in weights.items() if layer not in name}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="tensors of the encoder are not in the weights"):
        load_pretrained(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, str(tmp_path), load_config(tmp_path))


def test_a_family_without_a_classifier_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert-generation"}', encoding="utf-8")
    with pytest.raises(UserError, match="is a `bert-generation` model, of which transformers has no classifier"):
        load_pretrained(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, str(tmp_path), load_config(tmp_path))
