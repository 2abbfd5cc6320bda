"""The ONNX file agrees with PyTorch at every size and length, and a difference is refused."""

from pathlib import Path

import pytest
import torch

from kd_dist.data.examples import read_split
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError
from kd_dist.models.classifier import load_classifier, predict_logits
from kd_dist.serving import check, onnx


def test_not_a_number_is_a_difference() -> None:
    with pytest.raises(RunError, match="differ from torch by nan"):
        onnx.refuse_differences({"max_difference": float("nan"), "difference_by_shape": {}})


def test_only_differences_up_to_the_tolerance_pass() -> None:
    onnx.refuse_differences({"max_difference": onnx.TOLERANCE, "difference_by_shape": {}})
    with pytest.raises(RunError, match="differ from torch"):
        onnx.refuse_differences({"max_difference": 1.01 * onnx.TOLERANCE, "difference_by_shape": {}})


def test_the_file_agrees_with_onnxruntime_on_rows_of_its_own(stage_dir: Path, tmp_path: Path) -> None:
    import onnxruntime

    classifier = load_classifier(tmp_path / "model", torch.device("cpu"))
    rows = check.encode_examples(
        classifier, read_split(tmp_path / "tokens", "validation"), Preprocessing(max_length=32)
    )
    report = onnx.export_onnx(classifier, rows[:4], tmp_path / "new" / "model.onnx")
    assert report["max_difference"] == max(report["difference_by_shape"].values()) < report["tolerance"]
    assert report["latency_tokens"] == len(rows[0].input_ids)
    session = onnxruntime.InferenceSession(str(tmp_path / "new" / "model.onnx"))
    inputs = onnx._complete(classifier, classifier.batch(rows[4:]))
    (logits,) = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})
    assert logits == pytest.approx(predict_logits(classifier, rows[4:]), abs=1e-4)
