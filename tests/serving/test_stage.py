"""What is served is what was trained: the same logits without this project, in ONNX, at any batch size and length."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import normalizers
from transformers import AutoTokenizer, BertTokenizer, pipeline

from kd_dist.config.sections.data import PlainTokenData
from kd_dist.config.sections.models import Model
from kd_dist.config.stages import ServeStage
from kd_dist.data.cleaning import clean
from kd_dist.data.examples import read_split
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError
from kd_dist.files import write_json
from kd_dist.models.classifier import load_classifier
from kd_dist.serving import check, onnx, stage, tokenizer
from kd_dist.serving.model_card import model_card
from kd_dist.serving.predictions import predict
from tests.evaluation.test_scoring import write_tokens
from tests.models.test_classifier import LABELS, save_classifier
from tests.stages import run_entry

TEXTS = ["体育新闻", "今天股市大涨，投资者信心增强", "旅游"] * 3


@pytest.fixture
def stage_dir(tiny, tmp_path: Path) -> Path:
    model = save_classifier(tmp_path / "model", tiny.tokenizer, initializer_range=0.5)
    write_json(model / "manifest.json", {"stage": "distill", "scores": {"evaluation/accuracy": 0.875}})
    (model / "README.md").write_text("of the model before", encoding="utf-8")
    tokens = write_tokens(tmp_path / "tokens", TEXTS, [0, 1, 2] * 3, test=3)
    stage = ServeStage(model=Model(path=str(model)), data=PlainTokenData(tokens=str(tokens)))
    directory = tmp_path / "run" / "export"
    directory.mkdir(parents=True)
    write_json(directory / "config.json", stage.model_dump())
    return directory


def test_the_whole_stage(stage_dir: Path, capsys: pytest.CaptureFixture) -> None:
    import onnx

    run_entry(stage_dir)
    export = stage_dir / "export"
    assert load_classifier(export).labels == LABELS
    assert Preprocessing.load(export).max_length == 32  # the model did not say; the data does
    check = json.loads((stage_dir / "onnx_check.json").read_text(encoding="utf-8"))
    assert check["max_difference"] < 1e-4
    assert {"1 x 3", "7 x 64"} < set(check["difference_by_shape"])
    assert len(check["difference_by_shape"]) == 5
    assert check["latency_ms"]["onnxruntime"] > 0
    onnx.checker.check_model(onnx.load(export / "onnx" / "model.onnx"))
    card = (export / "README.md").read_text(encoding="utf-8")
    assert "| evaluation/accuracy | 0.8750 |" in card
    assert "体育, 财经, 旅游" in card
    assert "max_length=32" in card
    assert "the tokenizer cleans them" in card
    shown = capsys.readouterr()
    assert "differs from torch by at most" in shown.out
    assert shown.out.count("\n") == 1
    assert not list(stage_dir.glob(".*"))


def test_other_weights_are_noticed_in_isolation(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model", torch.device("cpu"))
    examples = read_split(tmp_path / "tokens", "validation")
    with torch.no_grad():
        classifier.model.classifier.bias += 1
    with pytest.raises(RunError, match="loaded with transformers alone, gives logits that differ by 1.0e"):
        check.check_in_isolation(tmp_path / "model", classifier, examples, Preprocessing(max_length=32))


def test_a_pipeline_answers_raw_texts_as_we_do(stage_dir: Path, tmp_path: Path) -> None:
    classifier, how = load_classifier(tmp_path / "model", torch.device("cpu")), Preprocessing(max_length=32)
    stage._copy(tmp_path / "model", tmp_path / "export", classifier, how)
    texts = ["　体育，\u200b新闻！  ", "今天\ufeff股市\t大涨…", "旅游　ＡＢＣ１２３", "体育新闻"]
    ours, _ = predict(classifier, how, [(text,) for text in texts], batch_size=4)
    classify = pipeline("text-classification", model=str(tmp_path / "export"), device="cpu")
    theirs = classify(texts, truncation=True, max_length=32)
    assert [one["label"] for one in theirs] == [one["label"] for one in ours]
    assert [one["score"] for one in theirs] == pytest.approx([one["probability"] for one in ours], abs=1e-5)


def test_a_tokenizer_that_does_not_clean_is_noticed(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model", torch.device("cpu"))
    examples = read_split(tmp_path / "tokens", "validation")
    with pytest.raises(RunError, match="its tokenizer makes other tokens of the text than training saw"):
        check.check_in_isolation(tmp_path / "model", classifier, examples, Preprocessing(max_length=32))
    cut = Preprocessing(max_length=32, segment="char")  # before any tokenizer: that is not for the tokenizer to do
    check.check_in_isolation(tmp_path / "model", classifier, examples, cut)


def test_pairs_are_served_as_they_were_learnt(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model", torch.device("cpu"))
    examples = replace(read_split(tmp_path / "tokens", "validation"), text_pairs=["財經，！"] * 9)
    shutil.copytree(tmp_path / "model", tmp_path / "copy")
    tokenizer.save_cleaning_tokenizer(tmp_path / "copy")
    check.check_in_isolation(tmp_path / "copy", classifier, examples, Preprocessing(max_length=32, pairs=True))


def bert_tokenizer(folder: Path) -> Any:
    """Published Chinese vocabularies have full-width punctuation beside the ASCII one."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"，,！!？?….12ａa好天", "##2", "１２", "12"]
    BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_the_exported_tokenizer_cleans(tmp_path: Path) -> None:
    before = bert_tokenizer(tmp_path)
    raw = "　好，\u200b天！ １２…\n ａ？"
    assert before(raw)["input_ids"] != before(clean(raw))["input_ids"]
    tokenizer.save_cleaning_tokenizer(tmp_path)
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
        tokenizer.save_cleaning_tokenizer(tmp_path)
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


def test_a_failed_check_leaves_the_older_export(stage_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stage_dir / "export").mkdir()
    (stage_dir / "export" / "old").touch()
    report = {"max_difference": 0.5, "difference_by_shape": {"1 x 3": 0.5}, "tolerance": 1e-4}
    monkeypatch.setattr("kd_dist.serving.stage.check_in_isolation", lambda *_: None)
    monkeypatch.setattr("kd_dist.serving.stage.export_onnx", lambda *_: report)
    with pytest.raises(RunError, match="differ from torch by 5.0e-01"):
        run_entry(stage_dir)
    assert [path.name for path in (stage_dir / "export").iterdir()] == ["old"]
    assert json.loads((stage_dir / "onnx_check.json").read_text(encoding="utf-8")) == report


def test_not_a_number_is_a_difference() -> None:
    with pytest.raises(RunError, match="differ from torch by nan"):
        onnx.refuse_differences({"max_difference": float("nan"), "difference_by_shape": {}})


def test_the_card_of_a_model_of_cut_words(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model")
    report = {"size_mb": 1.0, "max_difference": 1e-7}
    card = model_card(classifier, Preprocessing(max_length=32, segment="word", pairs=True), report)
    assert "kd_dist/predict.py" in card
    assert "text_pair" in card
