"""A model becomes a Hugging Face directory and an ONNX file that others can serve, and every check bites."""

import json
from pathlib import Path

import pytest

from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError
from kd_dist.models.classifier import load_classifier
from tests.models.random_models import LABELS
from tests.stages import run_entry


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
