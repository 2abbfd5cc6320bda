"""The model card says what the model is and how it is used."""

from pathlib import Path

from kd_dist.data.preprocessing import Preprocessing
from kd_dist.models.classifier import load_classifier
from kd_dist.serving.model_card import model_card
from tests.models.random_models import save_classifier
from tests.models.recurrent_models import save_recurrent


def test_the_card_of_a_model_of_cut_texts(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model")
    report = {"size_mb": 1.0, "max_difference": 1e-7}
    card = model_card(classifier, Preprocessing(max_length=32, segment="char", pairs=True), report)
    assert "kd_dist/predict.py" in card
    assert "text_pair" in card
    words = model_card(classifier, Preprocessing(max_length=32, segment="word"), report)
    assert "and segments them into words, for which it needs `pip install jieba`" in words
    assert "trust_remote_code=True" in words


def test_the_card_of_a_model_of_numbers(tiny, tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model", tiny.tokenizer, id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    card = model_card(load_classifier(model), Preprocessing(max_length=24), {"size_mb": 1.0, "max_difference": 1e-7})
    assert "# A regression text classifier" in card
    assert "texts of up to 24 tokens" in card
    assert "## Labels" not in card  # a number has none
    assert "## Scores" not in card  # there is no manifest
    assert "the tokenizer cleans them" in card


def test_the_card_of_a_model_that_brings_its_code(tiny, tmp_path: Path) -> None:
    report = {"size_mb": 1.0, "max_difference": 1e-7}
    recurrent = load_classifier(save_recurrent(tmp_path / "recurrent", tiny.tokenizer))
    assert "trust_remote_code=True" in model_card(recurrent, Preprocessing(max_length=24), report)
    plain = load_classifier(save_classifier(tmp_path / "model", tiny.tokenizer))
    assert "trust_remote_code" not in model_card(plain, Preprocessing(max_length=24), report)
