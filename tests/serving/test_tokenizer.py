"""The exported tokenizer cleans raw texts as training did, and leaves clean ones as they were."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import normalizers
from transformers import AutoTokenizer, BertTokenizer, pipeline

from kd_dist.data.cleaning import clean
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.models.classifier import load_classifier
from kd_dist.serving import stage, tokenizer
from kd_dist.serving.predictions import predict


def test_a_pipeline_answers_raw_texts_as_we_do(
    stage_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # as the pipeline sets it, for good
    classifier, how = load_classifier(tmp_path / "model", torch.device("cpu")), Preprocessing(max_length=32)
    stage._copy(tmp_path / "model", tmp_path / "export", classifier, how)
    texts = ["　体育，\u200b新闻！  ", "今天\ufeff股市\t大涨…", "旅游　ＡＢＣ１２３", "体育新闻"]
    ours, _ = predict(classifier, how, [(text,) for text in texts], batch_size=4)
    classify = pipeline("text-classification", model=str(tmp_path / "export"), device="cpu")
    theirs = classify(texts, truncation=True, max_length=32)
    assert [one["label"] for one in theirs] == [one["label"] for one in ours]
    assert [one["score"] for one in theirs] == pytest.approx([one["probability"] for one in ours], abs=1e-5)


def bert_tokenizer(folder: Path) -> Any:
    """Published Chinese vocabularies have full-width punctuation beside the ASCII one."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"，,！!？?….12ａa好天", "##2", "１２", "12"]
    BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_the_exported_tokenizer_cleans(tmp_path: Path) -> None:
    before = bert_tokenizer(tmp_path)
    raw = "　好，\u200b天！ １２…\n ａ？"
    assert before(raw)["input_ids"] != before(clean(raw))["input_ids"]
    tokenizer.save_cleaning_tokenizer(tmp_path, Preprocessing(max_length=32))
    after = AutoTokenizer.from_pretrained(tmp_path)
    assert after(raw)["input_ids"] == after(clean(raw))["input_ids"] == before(clean(raw))["input_ids"]
    assert after("好", "天，")["token_type_ids"] == before("好", "天,")["token_type_ids"]
    assert after.model_input_names == before.model_input_names
    assert after.all_special_ids == before.all_special_ids


@pytest.mark.parametrize("times", [1, 2])
def test_tokens_of_clean_texts_are_as_before(tiny, tmp_path: Path, times: int) -> None:
    shutil.copytree(tiny.tokenizer, tmp_path, dirs_exist_ok=True)
    before = AutoTokenizer.from_pretrained(tmp_path)
    for _ in range(times):  # an export that is exported once more
        tokenizer.save_cleaning_tokenizer(tmp_path, Preprocessing(max_length=32))
    after = AutoTokenizer.from_pretrained(tmp_path)
    texts = [clean(line) for line in tiny.corpus.read_text(encoding="utf-8").splitlines()]
    assert after(texts)["input_ids"] == before(texts)["input_ids"]


def test_every_character_is_cleaned_as_in_training() -> None:
    cleaning = normalizers.Sequence(tokenizer._cleaning())
    texts = [f"a{character}b" for character in map(chr, range(0x20000)) if not "\ud800" <= character <= "\udfff"]
    assert [text for text in map(clean, texts) if cleaning.normalize_str(text) != text] == []
    newer = [text for text in texts if cleaning.normalize_str(text) != clean(text)]  # than the tokenizer's Unicode
    assert len(newer) < 80
    assert all(ord(text[1]) > 0x2FFF and text[1] not in "　，！？：；（）" for text in newer)
