"""A served tokenizer of words segments raw texts as training did, wherever transformers and jieba are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertTokenizer, pipeline

from kd_dist.data.examples import Examples
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.models.classifier import load_classifier
from kd_dist.serving import stage
from kd_dist.serving.check import check_in_isolation
from kd_dist.serving.predictions import predict
from kd_dist.serving.tokenizer import save_cleaning_tokenizer
from tests.models.random_models import random_classifier, save_classifier

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"今天气很好我们去公园,x!",
    "天气",
    "公园",
    "##x",
    "app",
    "卡拉ok",
]
HOW = Preprocessing(max_length=32, segment="word")
TEXTS = [
    "　公园天气很好，\u200bＡｐｐ　好！！ ",
    "我们去公园",
    "公园, xx很app",
    "x!!x",
    "",
    " \t",
    "未知的词，天气预报",
]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    BertTokenizer(vocab={piece: index for index, piece in enumerate(PIECES)}).save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def served(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


@pytest.mark.parametrize("times", [1, 2])
def test_its_tokens_are_those_of_training(plain: Path, times: int) -> None:
    before = load_tokenizer(plain)
    expected = [row.input_ids for row in HOW.encode(before, TEXTS)]
    for _ in range(times):  # an export that is exported once more
        save_cleaning_tokenizer(plain, HOW)
    assert served(plain)(TEXTS)["input_ids"] == expected
    assert before.convert_ids_to_tokens(expected[0]) == ["[CLS]", "公园", "天气", *"很好,", "app", *"好!!", "[SEP]"]
    assert before.convert_ids_to_tokens(expected[2])[-5:] == ["x", "##x", "很", "app", "[SEP]"]


def test_pairs_have_two_segments(plain: Path) -> None:
    save_cleaning_tokenizer(plain, HOW)
    assert served(plain)("天气", "我们很好")["token_type_ids"] == [0, 0, 0, 1, 1, 1, 1, 1]


def test_without_its_code_it_does_not_load(plain: Path) -> None:
    """Or it would silently cut words into characters."""
    save_cleaning_tokenizer(plain, HOW)
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        AutoTokenizer.from_pretrained(plain, trust_remote_code=False)


def test_here_the_preprocessing_goes_on_to_segment(plain: Path) -> None:
    expected = HOW.encode(load_tokenizer(plain), TEXTS)
    save_cleaning_tokenizer(plain, HOW)
    again = load_tokenizer(plain)
    assert HOW.encode(again, TEXTS) == expected
    again.save_pretrained(plain / "student")  # as training exports it
    assert HOW.encode(load_tokenizer(plain / "student"), TEXTS) == expected


@pytest.mark.parametrize("kind", ["bert", "nezha"])  # WoBERT, and WoNEZHA, whose export brings the model's code too
def test_a_pipeline_answers_raw_texts_as_we_do(
    kind: str, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # as the pipeline sets it, for good
    model = tmp_path / "model"
    random_classifier(kind, vocab_size=len(PIECES)).save_pretrained(model)
    load_tokenizer(plain).save_pretrained(model)
    classifier = load_classifier(model, torch.device("cpu"))
    HOW.save(model)
    stage._copy(model, tmp_path / "export", classifier, HOW)
    ours, _ = predict(classifier, HOW, [(text,) for text in TEXTS], batch_size=4)
    classify = pipeline("text-classification", model=str(tmp_path / "export"), device="cpu", trust_remote_code=True)
    theirs = classify(TEXTS, truncation=True, max_length=32, batch_size=4)
    assert [one["label"] for one in theirs] == [one["label"] for one in ours]
    assert [one["score"] for one in theirs] == pytest.approx([one["probability"] for one in ours], abs=1e-5)


def test_it_is_checked_where_only_transformers_is(plain: Path, tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model", plain, initializer_range=0.5)
    HOW.save(model)
    classifier = load_classifier(model, torch.device("cpu"))
    stage._copy(model, tmp_path / "export", classifier, HOW)
    examples = Examples("validation", "single_label", classifier.label2id, ["今天天气很好"] * 2, None, np.zeros(2))
    check_in_isolation(tmp_path / "export", classifier, examples, HOW)
