"""An exported model is loaded with transformers alone, and what it predicts otherwise is noticed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kd_dist.data.examples import read_split
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError
from kd_dist.models.classifier import load_classifier
from kd_dist.serving import check, tokenizer
from tests.models.recurrent_models import save_recurrent


def test_other_weights_are_noticed_in_isolation(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model", torch.device("cpu"))
    examples = read_split(tmp_path / "tokens", "validation")
    with torch.no_grad():
        classifier.model.classifier.bias += 1
    with pytest.raises(RunError, match="loaded with transformers alone, gives logits that differ by 1.0e"):
        check.check_in_isolation(tmp_path / "model", classifier, examples, Preprocessing(max_length=32))


def test_a_tokenizer_that_does_not_clean_is_noticed(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model", torch.device("cpu"))
    examples = read_split(tmp_path / "tokens", "validation")
    with pytest.raises(RunError, match="its tokenizer does not give the tokens that the model was trained on"):
        check.check_in_isolation(tmp_path / "model", classifier, examples, Preprocessing(max_length=32))
    cut = Preprocessing(max_length=32, segment="char")  # before any tokenizer: that is not for the tokenizer to do
    check.check_in_isolation(tmp_path / "model", classifier, examples, cut)


def test_pairs_are_served_as_they_were_learnt(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model", torch.device("cpu"))
    examples = replace(read_split(tmp_path / "tokens", "validation"), text_pairs=["財經，！"] * 9)
    shutil.copytree(tmp_path / "model", tmp_path / "copy")
    tokenizer.save_cleaning_tokenizer(tmp_path / "copy", Preprocessing(max_length=32))
    check.check_in_isolation(tmp_path / "copy", classifier, examples, Preprocessing(max_length=32, pairs=True))


def test_a_model_that_does_not_load_in_isolation(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model", torch.device("cpu"))
    examples = read_split(tmp_path / "tokens", "validation")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"empty does not load with transformers alone: \w*Error: .*empty"):
        check.check_in_isolation(tmp_path / "empty", classifier, examples, Preprocessing(max_length=32))


def test_texts_that_need_more_than_the_tokenizer(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model", torch.device("cpu"))
    assert check.takes_raw_texts(classifier, Preprocessing(max_length=32, pairs=True))
    assert check.takes_raw_texts(classifier, Preprocessing(max_length=32, segment="word"))
    assert not check.takes_raw_texts(classifier, Preprocessing(max_length=32, segment="char"))
    assert not check.takes_raw_texts(classifier, Preprocessing(max_length=32, hint_words={"a": ["b"]}))


def test_a_recurrent_model_is_loaded_by_the_code_beside_it(tiny, stage_dir: Path, tmp_path: Path) -> None:
    folder = save_recurrent(tmp_path / "recurrent", tiny.tokenizer)
    tokenizer.save_cleaning_tokenizer(folder, Preprocessing(max_length=32))
    classifier, examples = load_classifier(folder, torch.device("cpu")), read_split(tmp_path / "tokens", "validation")
    check.check_in_isolation(folder, classifier, examples, Preprocessing(max_length=32))
    (folder / "recurrent.py").unlink()
    with pytest.raises(RunError, match="recurrent does not load with transformers alone"):
        check.check_in_isolation(folder, classifier, examples, Preprocessing(max_length=32))
