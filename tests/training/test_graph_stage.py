"""The stage that trains a TextGCN exports it, and writes how its nodes are classified."""

from pathlib import Path

import pytest
import torch

from kd_dist.data.graph_files import write_graph
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.text_graph import build_graph
from kd_dist.errors import RunError
from kd_dist.files import read_json, write_json
from kd_dist.models.classifier import load_classifier
from kd_dist.runs.layout import open_run
from tests.conftest import LabelledWorld
from tests.loading import load_job
from tests.stages import run_entry


def opened(labelled: LabelledWorld, graph: Path, folder: Path, *settings: str) -> Path:
    wires = [f"textgcn.data.tokens={labelled.tokens}", f"textgcn.data.graph={graph}"]
    job = load_job("textgcn", [*wires, "train.epochs=15", "network.hidden_size=8", *settings])
    return open_run(job, folder, "a") / "textgcn"


@pytest.fixture
def graph(labelled: LabelledWorld, tmp_path: Path) -> Path:
    folder = tmp_path / "graph"
    folder.mkdir()
    write_graph(build_graph(PreparedRows(labelled.tokens), 20), folder)
    return folder


def test_the_export_classifies_texts_and_results_have_the_nodes(
    labelled: LabelledWorld, graph: Path, tmp_path: Path
) -> None:
    stage_dir = opened(labelled, graph, tmp_path / "runs")
    run_entry(stage_dir)
    classifier = load_classifier(stage_dir / "export", torch.device("cpu"))
    assert classifier.labels == ["finance", "sport"]
    assert Preprocessing.load(stage_dir / "export") == PreparedRows(labelled.tokens).preprocessing
    validation, test = read_json(stage_dir / "results.json")
    assert (validation["split"], test["split"]) == ("validation", "test")
    assert {"accuracy", "macro_f1", "parameters", "training_seconds", "seed", "steps"} <= test.keys()
    manifest = read_json(stage_dir / "export" / "manifest.json")
    assert manifest["scores"]["evaluation/accuracy"] == validation["accuracy"]
    assert manifest["parameters"] == validation["parameters"]


def test_a_graph_of_other_rows_is_refused(labelled: LabelledWorld, graph: Path, tmp_path: Path) -> None:
    facts = read_json(graph / "statistics.json")
    write_json(graph / "statistics.json", {"documents": facts["documents"] | {"train": 61}})
    with pytest.raises(RunError, match="was made of other rows than data.tokens=.*'train': 61.*, not .*'train': 60"):
        run_entry(opened(labelled, graph, tmp_path / "runs"))
