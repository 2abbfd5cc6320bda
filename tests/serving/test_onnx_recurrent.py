"""Recurrent layers in ONNX are those of PyTorch at every size and length."""

from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import load as load_onnx

from kd_dist.data.preprocessing import Preprocessing
from kd_dist.models.classifier import load_classifier
from kd_dist.serving import onnx
from tests.conftest import TinyWorld
from tests.models.recurrent_models import KINDS, kind_id, save_recurrent

EXPORTED = [kind for kind in KINDS if kind["num_hidden_layers"] == 2 or kind["pooling"] == "max"]


@pytest.mark.parametrize("kind", EXPORTED, ids=kind_id)
def test_recurrent_layers_read_each_row_to_its_end_only(kind: dict[str, Any], tiny: TinyWorld, tmp_path: Path) -> None:
    classifier = load_classifier(save_recurrent(tmp_path / "model", tiny.tokenizer, **kind), torch.device("cpu"))
    rows = classifier.encode(Preprocessing(max_length=32), ["好", "今天的比赛", "国家经济"], None)[0]
    report = onnx.export_onnx(classifier, rows, tmp_path / "model.onnx")
    assert report["max_difference"] < 1e-5
    assert {"1 x 3", "7 x 128"} < set(report["difference_by_shape"])
    operators = [node.op_type for node in load_onnx(str(tmp_path / "model.onnx")).graph.node]
    assert operators.count(str(kind["cell"]).upper()) == kind["num_hidden_layers"]  # whatever the length
