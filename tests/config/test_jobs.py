"""Jobs are found by name, and a run is repeated from its own job.json."""

import json
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from tests.config.refusals import refusal
from tests.loading import load_job


@pytest.mark.parametrize("name", ["tinybert_genral", "", "../config", "__init__"])
def test_unknown_job_is_answered_with_those_that_exist(name: str) -> None:
    assert "there are: augment, cut_vocabulary, demo, " in refusal(job=name)


def test_misspelt_job_is_answered_with_the_nearest() -> None:
    assert "did you mean `tinybert_general`?" in refusal(job="tinybert_genral")


def test_overrides_leave_the_job_file_alone() -> None:
    load_job("tinybert_general", ["train.steps=1", "data.corpus=a,b"])
    assert load_job("tinybert_general", []).stages["distill"].train.steps is None


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("tinybert_general", ["train.steps=9", "objective.layer_map=3,6,9,12", "data.corpus=a,b", "train.seed=1"]),
        ("demo", ["distill.teacher.path=somewhere", "finetune.train.steps=9"]),
        ("pretrain", ["tokenizer.path=somewhere"]),
    ],
)
def test_job_json_is_rerunnable(tmp_path: Path, name: str, overrides: list[str]) -> None:
    job: Job = load_job(name, overrides)
    (tmp_path / "job.json").write_text(json.dumps(job.model_dump()), encoding="utf-8")
    assert load_job(name, [], tmp_path / "job.json") == job


def test_job_json_of_another_job_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(load_job("pretrain", []).model_dump_json(), encoding="utf-8")
    assert refusal(overlay=path) == (
        f"--config {path} describes job `pretrain`, not `tinybert_general`: use --job pretrain"
    )
