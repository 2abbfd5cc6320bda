"""What is served is what was trained: the same logits without this project, in ONNX, at any batch size and length."""

import json
from pathlib import Path

import pytest
import torch

from kd_dist import serving
from kd_dist.classifier import load_classifier
from kd_dist.errors import RunError
from kd_dist.preprocessing import Preprocessing
from kd_dist.runs import write_json
from kd_dist.sections import Model, PlainTokenData
from kd_dist.serving import model_card, run
from kd_dist.stages import ExportStage
from tests.test_classifier import LABELS, save_classifier
from tests.test_evaluation import write_tokens

TEXTS = ["体育新闻", "今天股市大涨，投资者信心增强", "旅游"] * 3


@pytest.fixture
def stage_dir(tiny, tmp_path: Path) -> Path:
    model = save_classifier(tmp_path / "model", tiny.tokenizer, initializer_range=0.5)
    write_json(model / "manifest.json", {"stage": "distill", "scores": {"evaluation/accuracy": 0.875}})
    (model / "README.md").write_text("of the model before", encoding="utf-8")
    tokens = write_tokens(tmp_path / "tokens", TEXTS, [0, 1, 2] * 3, test=3)
    stage = ExportStage(model=Model(path=str(model)), data=PlainTokenData(tokens=str(tokens)))
    directory = tmp_path / "run" / "export"
    directory.mkdir(parents=True)
    write_json(directory / "config.json", stage.model_dump())
    return directory


def test_the_whole_stage(stage_dir: Path, capsys: pytest.CaptureFixture) -> None:
    import onnx

    run(stage_dir)
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
    shown = capsys.readouterr()
    assert "differs from torch by at most" in shown.out
    assert shown.out.count("\n") == 1
    assert not list(stage_dir.glob(".*"))


def test_a_stranger_notices_other_weights(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model", torch.device("cpu"))
    examples = serving.read_split(tmp_path / "tokens", "validation")
    rows = serving._encoded(classifier, examples, Preprocessing(max_length=32))
    with torch.no_grad():
        classifier.model.classifier.bias += 1
    with pytest.raises(RunError, match="loaded with transformers alone, gives logits that differ by 1.0e"):
        serving.check_as_stranger(tmp_path / "model", classifier, examples, rows)


def test_a_failed_check_leaves_the_older_export(stage_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stage_dir / "export").mkdir()
    (stage_dir / "export" / "old").touch()
    report = {"max_difference": 0.5, "difference_by_shape": {"1 x 3": 0.5}, "tolerance": 1e-4}
    monkeypatch.setattr(serving, "check_as_stranger", lambda *_: None)
    monkeypatch.setattr(serving, "export_onnx", lambda *_: report)
    with pytest.raises(RunError, match="differ from torch by 5.0e-01"):
        run(stage_dir)
    assert [path.name for path in (stage_dir / "export").iterdir()] == ["old"]
    assert json.loads((stage_dir / "onnx_check.json").read_text(encoding="utf-8")) == report


def test_not_a_number_is_a_difference() -> None:
    with pytest.raises(RunError, match="differ from torch by nan"):
        serving._refuse_differences({"max_difference": float("nan"), "difference_by_shape": {}})


def test_the_card_of_a_model_of_cut_words(stage_dir: Path, tmp_path: Path) -> None:
    classifier = load_classifier(tmp_path / "model")
    report = {"size_mb": 1.0, "max_difference": 1e-7}
    card = model_card(classifier, Preprocessing(max_length=32, segment="word", pairs=True), report)
    assert "kd_dist/predict.py" in card
    assert "text_pair" in card
