"""The ONNX file agrees with PyTorch at every size and length, and a difference is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import load as load_onnx

from kd_dist.data.examples import read_split
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError
from kd_dist.models.classifier import load_classifier, predict_logits
from kd_dist.serving import check, onnx
from tests.conftest import TinyWorld
from tests.models.recurrent_models import KINDS, kind_id, save_recurrent


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


@pytest.mark.parametrize("kind", KINDS, ids=kind_id)
def test_recurrent_layers_read_each_row_to_its_end_only(kind: dict[str, Any], tiny: TinyWorld, tmp_path: Path) -> None:
    classifier = load_classifier(save_recurrent(tmp_path / "model", tiny.tokenizer, **kind), torch.device("cpu"))
    rows = classifier.encode(Preprocessing(max_length=32), ["好", "今天的比赛", "国家经济"], None)[0]
    report = onnx.export_onnx(classifier, rows, tmp_path / "model.onnx")
    assert report["max_difference"] < 1e-5
    assert {"1 x 3", "7 x 128"} < set(report["difference_by_shape"])
    operators = [node.op_type for node in load_onnx(str(tmp_path / "model.onnx")).graph.node]
    assert operators.count(str(kind["cell"]).upper()) == kind["num_hidden_layers"]  # whatever the length
