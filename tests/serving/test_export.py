"""What training exports loads with transformers, says where it comes from, and replaces an older export."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.files import write_json
from kd_dist.models.attention import capture_attention
from kd_dist.models.classifier import load_classifier
from kd_dist.objectives.finetune import Finetune
from kd_dist.serving.export import export
from tests.conftest import LabelledWorld

SCORES = {"evaluation/accuracy": 0.5}


def load(labelled: LabelledWorld) -> Any:
    return AutoTokenizer.from_pretrained(labelled.teacher)


@pytest.fixture
def objective(labelled: LabelledWorld) -> Finetune:
    student = AutoModelForSequenceClassification.from_pretrained(labelled.teacher).eval()
    capture_attention(student)
    return Finetune(student, PreparedRows(labelled.tokens).labels, None)


@pytest.fixture
def stage_dir(labelled: LabelledWorld, tmp_path: Path) -> Path:
    directory = tmp_path / "finetune" / "monday" / "train"
    directory.mkdir(parents=True)
    write_json(directory / "config.json", {"data": {"tokens": str(labelled.tokens)}})
    write_json(directory / "inputs.json", {"fingerprint": "of the stage", "files": []})
    return directory


def test_an_export_gives_the_logits_of_the_model(labelled: LabelledWorld, objective: Finetune, stage_dir: Path) -> None:
    attention = objective.student.config._attn_implementation
    folder = export(objective, load(labelled), PreparedRows(labelled.tokens), stage_dir, SCORES)
    assert folder == stage_dir / "export"
    assert objective.student.config._attn_implementation == attention  # it goes on being trained
    classifier = load_classifier(folder, torch.device("cpu"))
    assert Preprocessing.load(folder) == PreparedRows(labelled.tokens).preprocessing
    batch = classifier.batch(Preprocessing.load(folder).encode(classifier.tokenizer, ["国家经济", "人民"]))
    with torch.inference_mode():
        torch.testing.assert_close(classifier.model(**batch).logits, objective.student(**batch).logits)


def test_the_manifest_says_where_the_model_comes_from(
    labelled: LabelledWorld, objective: Finetune, stage_dir: Path
) -> None:
    tokens = stage_dir.parent / "labelled" / "tokens"
    tokens.mkdir(parents=True)
    write_json(tokens.parent / "inputs.json", {"fingerprint": "of the data", "files": []})
    folder = export(objective, load(labelled), PreparedRows(tokens), stage_dir, SCORES)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["job"], manifest["run_id"], manifest["stage"]) == ("finetune", "monday", "train")
    assert manifest["configuration_sha256"] == hashlib.sha256((stage_dir / "config.json").read_bytes()).hexdigest()
    assert (manifest["inputs_fingerprint"], manifest["data_fingerprint"]) == ("of the stage", "of the data")
    assert manifest["parameters"] == sum(parameter.numel() for parameter in objective.student.parameters())
    assert manifest["scores"] == SCORES
    assert not (folder / "preprocessing.json").exists()  # these rows do not have it


def test_a_shared_corpus_is_named_by_its_fingerprint(
    labelled: LabelledWorld, objective: Finetune, stage_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "0123abcd").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "cache" / "0123abcd")
    folder = export(objective, load(labelled), PreparedRows(tmp_path / "link"), stage_dir, {})
    assert json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["data_fingerprint"] == "0123abcd"


def test_an_export_replaces_an_older_one_as_a_whole(
    labelled: LabelledWorld, objective: Finetune, stage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage_dir / "export").mkdir()
    (stage_dir / "export" / "old").touch()
    tokenizer, rows = load(labelled), PreparedRows(labelled.tokens)

    def fail(directory: Path) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(objective, "save_extras", fail)
        with pytest.raises(OSError, match="disk full"):
            export(objective, tokenizer, rows, stage_dir, {})
    assert list((stage_dir / "export").iterdir()) == [stage_dir / "export" / "old"]
    export(objective, tokenizer, rows, stage_dir, {})
    assert not (stage_dir / "export" / "old").exists()
    assert not list(stage_dir.glob(".*"))
