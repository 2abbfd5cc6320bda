"""A stage of training ends with the weights that its selection keeps."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.sections.models import Student
from kd_dist.config.sections.training import Cadence, Selection, Train
from kd_dist.data.token_rows import TokenRows
from kd_dist.errors import RunError
from kd_dist.files import read_json, write_json
from kd_dist.runs.layout import open_run
from kd_dist.runs.metrics import read_metrics
from kd_dist.runs.stage_runner import run_stage
from kd_dist.training.stage import _check_tokens, _micro_batch_size
from tests.conftest import LabelledWorld, TinyWorld
from tests.objectives.builders import built, stage
from tests.ranks import run_ranks


def train(labelled: LabelledWorld, runs_dir: Path, run_id: str, **settings: object) -> Path:
    described = stage(labelled, FinetuneObjective(), **settings)
    job = Job(name="classify", description="", stages={"train": described}, result="train")
    return open_run(job, runs_dir, run_id) / "train"


def run_one_stage(directory: str) -> None:
    """What every rank runs."""
    run_stage(Path(directory))


def evaluations(directory: Path) -> list[float]:
    rows = read_metrics(directory / "metrics.jsonl")
    return [row["evaluation/accuracy"] for row in rows if "evaluation/accuracy" in row]


def test_the_best_step_is_exported_whatever_the_number_of_ranks(labelled: LabelledWorld, tmp_path: Path) -> None:
    settings = {
        "train": Train(steps=12, global_batch_size=8, micro_batch_size=4),
        "selection": Selection(),
        "cadence": Cadence(evaluate_every_n_steps=2, save_every_n_steps=5, keep_checkpoints=1, log_every_n_steps=2),
    }
    exports = []
    for ranks in (1, 2):
        directory = train(labelled, tmp_path, f"ranks{ranks}", **settings)
        run_ranks(ranks, "tests.training.test_stage:run_one_stage", str(directory))
        seen = evaluations(directory)
        assert len(seen) == 6
        model = AutoModelForSequenceClassification.from_pretrained(directory / "export").eval()
        rows = TokenRows(labelled.tokens, "validation", 0)
        held_out = rows.collate(np.arange(len(rows)))
        with torch.no_grad():
            logits_BC = model(held_out["input_ids"], held_out["attention_mask"]).logits
        accuracy = float((logits_BC.argmax(1) == held_out["labels"]).float().mean())
        assert accuracy == pytest.approx(max(seen))
        best = 2 * (1 + seen.index(max(seen)))
        kept = {path.name for path in (directory / "checkpoints").iterdir()}
        assert kept == {f"step_{best:08d}", "step_00000012"}
        assert model.config.id2label == {0: "finance", 1: "sport"}
        exports.append(logits_BC)
    torch.testing.assert_close(exports[0], exports[1], atol=1e-4, rtol=1e-4)


def test_patience_ends_a_stage_early(labelled: LabelledWorld, tmp_path: Path) -> None:
    directory = train(
        labelled,
        tmp_path,
        "patient",
        train=Train(steps=200, global_batch_size=8, micro_batch_size=4),
        selection=Selection(patience=3),
        cadence=Cadence(evaluate_every_n_steps=1, log_every_n_steps=1),
    )
    run_ranks(1, "tests.training.test_stage:run_one_stage", str(directory))
    seen = evaluations(directory)
    assert len(seen) < 200
    assert len(seen) - 1 - seen.index(max(seen)) == 3
    assert (directory / "COMPLETE").exists()


def test_a_run_that_goes_on_keeps_the_size_of_its_passes(labelled: LabelledWorld, tmp_path: Path) -> None:
    described = stage(labelled, FinetuneObjective(), train=Train(global_batch_size=32))
    assert _micro_batch_size(described, None) == 8
    write_json(tmp_path / "state.json", {"step": 5, "micro_batch_size": 16})
    assert _micro_batch_size(described, tmp_path) == 16
    write_json(tmp_path / "state.json", {"step": 5, "micro_batch_size": 12})  # of other ranks
    assert _micro_batch_size(described, tmp_path) == 8


def test_a_student_of_other_tokens_is_refused_before_training(
    tiny: TinyWorld, labelled: LabelledWorld, tmp_path: Path
) -> None:
    student = Path(shutil.copytree(tiny.teacher, tmp_path / "student"))
    content = read_json(student / "tokenizer.json")
    ids = content["model"]["vocab"]
    first, second = sorted(ids, key=ids.__getitem__)[100:102]
    ids[first], ids[second] = ids[second], ids[first]
    write_json(student / "tokenizer.json", content)
    described = stage(labelled, FinetuneObjective(), student=Student(path=str(student)))
    with pytest.raises(RunError, match=r"student.path=\S+ has another vocabulary than the rows .* is token 100, "):
        _check_tokens(described, built(described), labelled.tokens)


def test_rows_with_more_tokens_than_the_model_has(labelled: LabelledWorld, tiny: TinyWorld, tmp_path: Path) -> None:
    tokens = Path(shutil.copytree(labelled.tokens, tmp_path / "tokens"))
    statistics = read_json(tokens / "statistics.json")
    write_json(tokens / "statistics.json", statistics | {"vocabulary_size": statistics["vocabulary_size"] + 3})
    described = stage(labelled, FinetuneObjective(), student=Student(path=str(tiny.teacher)))
    with pytest.raises(RunError, match=r"has [\d,]+ tokens, but the student has [\d,]+ embeddings.*resize_token"):
        _check_tokens(described, built(described), tokens)
