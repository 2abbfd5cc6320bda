"""Records of predictions are what the logits say, and a speed is a number from 0 to 1."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError, UserError
from kd_dist.models.classifier import load_classifier
from kd_dist.models.classifier_output import ClassifierOutput
from kd_dist.serving.predictions import checked_speed, predict
from tests.models.random_models import LABELS, save_classifier


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"problem_type": "multi_label_classification"},
        {"id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}},
    ],
)
def test_records_are_what_the_logits_say(settings: dict[str, Any], tiny, tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model", tiny.tokenizer, initializer_range=1.0, **settings)
    classifier, preprocessing = load_classifier(model), Preprocessing(max_length=16)
    rows = [("国家经济",), ("人民生活" * 10,), ("",)]
    records, num_truncated = predict(classifier, preprocessing, rows, batch_size=2)
    encodings = preprocessing.encode(classifier.tokenizer, [text for (text,) in rows])
    assert num_truncated == sum(encoding.truncated for encoding in encodings) == 1
    for record, encoding in zip(records, encodings, strict=True):
        logits = classifier.model(**classifier.batch([encoding])).logits[0].double().cpu().numpy()
        if classifier.task == "regression":
            assert record == {"label": pytest.approx(logits[0], rel=1e-5)}
        elif classifier.task == "single_label":
            probabilities = np.exp(logits) / np.exp(logits).sum()
            assert record["label"] == LABELS[logits.argmax()]
            assert record["probability"] == pytest.approx(probabilities.max(), rel=1e-4)
        else:
            chosen = [index for index in np.argsort(-logits) if logits[index] > 0]
            assert record["label"] == [LABELS[index] for index in chosen]
            assert record["probability"] == pytest.approx([1 / (1 + np.exp(-logits[index])) for index in chosen])


def test_a_pair_is_one_row(tiny, tmp_path: Path) -> None:
    classifier = load_classifier(save_classifier(tmp_path / "model", tiny.tokenizer, initializer_range=1.0))
    preprocessing = Preprocessing(max_length=16, pairs=True)
    one, other = predict(classifier, preprocessing, [("国家", "经济"), ("经济", "国家")], batch_size=2)[0]
    assert one["probability"] != other["probability"]


def test_a_speed_is_a_number_from_0_to_1() -> None:
    assert [checked_speed("--speed", text) for text in ("0", "0.25", "1", "1e-1")] == [0, 0.25, 1, 0.1]
    for text in ("-0.1", "1.01", "nan", "inf", "fast", ""):
        with pytest.raises(UserError, match=rf"--speed {text}: a speed is a number from 0 \(all layers\) to 1"):
            checked_speed("--speed", text)


def test_another_number_of_answers_than_of_texts_is_an_error(tiny, tmp_path: Path, monkeypatch) -> None:
    classifier = load_classifier(save_classifier(tmp_path / "model", tiny.tokenizer))
    one_answer = ClassifierOutput(torch.zeros(1, len(LABELS)))
    monkeypatch.setattr("kd_dist.serving.predictions.answers_to", lambda *_: one_answer)
    with pytest.raises(RunError, match="1 answers to 3 texts") as caught:
        predict(classifier, Preprocessing(max_length=16), [("a",), ("b",), ("c",)], batch_size=2)
    assert caught.value.exit_status == 1
