"""Jobs as earlier versions wrote them mean what they meant."""

import json
from pathlib import Path
from typing import Any

import pytest

from kd_dist.config.former_runs import modernized_job, modernized_stage
from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, job_names
from kd_dist.config.paths import REPOSITORY
from tests.loading import load_job

RECORDED = sorted((REPOSITORY / "results").glob("*/job.json"))


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.parent.name)
def test_recorded_jobs_load(file: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    job = Job.model_validate(modernized_job(content))
    assert job.name == content["name"]
    for name, stage in content["stages"].items():
        for section in set(stage) & {"train", "optim", "objective", "data", "augment", "calibrate", "evaluate"}:
            new = getattr(job.stages[name], section).model_dump()
            assert {key: new[key] for key in stage[section]} == stage[section]


@pytest.mark.parametrize("name", job_names())
def test_a_current_job_comes_back_equal(name: str) -> None:
    content = find_job(name).model_dump()
    assert modernized_job(content) == content


@pytest.mark.parametrize(
    ("former", "now"),
    [
        (
            {"kind": "prepare", "teacher": {"path": "t"}, "tokenizer": None},
            {"kind": "corpus", "tokenizer": {"path": "t"}},
        ),
        (
            {"kind": "prepare", "teacher": None, "tokenizer": {"path": None, "vocabulary_size": 6000}},
            {"kind": "corpus", "tokenizer": {"path": None, "vocabulary_size": 6000}},
        ),
        ({"kind": "labelled", "teacher": {"path": "t"}}, {"kind": "labelled", "tokenizer": {"path": "t"}}),
        ({"kind": "export", "model": {"path": "m"}}, {"kind": "serve", "model": {"path": "m"}}),
        (
            {"kind": "augment", "teacher": {"path": "t"}, "augment": {"keep_confidence": None}},
            {
                "kind": "augment",
                "encoder": {"path": "t"},
                "teacher": {"path": None},
                "augment": {"keep_confidence": None},
            },
        ),
        (
            {"kind": "augment", "teacher": {"path": "t"}, "augment": {"keep_confidence": 0.5}},
            {
                "kind": "augment",
                "encoder": {"path": "t"},
                "teacher": {"path": "t"},
                "augment": {"keep_confidence": 0.5},
            },
        ),
    ],
)
def test_each_part_that_a_teacher_played_has_its_name(former: dict[str, Any], now: dict[str, Any]) -> None:
    assert modernized_stage(former) == now


@pytest.mark.parametrize(
    ("student", "objective", "part"),
    [
        (None, "finetune", "encoder"),
        ({"config": "c"}, "finetune", "donor"),
        ({"config": "c"}, "soft_labels", "teacher"),
        ({"config": "c"}, "tinybert", "teacher"),
    ],
)
def test_the_model_of_a_training_stage(student: dict[str, str] | None, objective: str, part: str) -> None:
    former = {"kind": "train", "teacher": {"path": "t"}, "student": student, "objective": {"name": objective}}
    assert modernized_stage(former).get(part) == {"path": "t"}
    assert [key for key in ("teacher", "encoder", "donor") if modernized_stage(former).get(key)] == [part]


def test_a_recorded_job_runs_again(tmp_path: Path) -> None:
    recorded = next(file for file in RECORDED if file.parent.name == "tinybert_general")
    job = load_job("tinybert_general", ["train.steps=7"], recorded)
    assert [stage.kind for stage in job.stages.values()][:2] == ["corpus", "train"]
    assert job.stages["distill"].train.steps == 7


def test_settings_that_did_not_exist_have_the_value_of_then() -> None:
    former = {"kind": "train", "student": {"config": "s"}, "objective": {"name": "tinybert", "attention_weight": 0.003}}
    now = modernized_stage(former)
    assert now["student"] == {"config": "s", "init": "random"}
    assert now["objective"] == former["objective"] | {"attention": "raw", "units": "absolute"}
    assert modernized_stage(now) == now
    current = {
        "kind": "train",
        "student": {"init": "projected"},
        "objective": {"name": "tinybert", "attention": "none"},
    }
    assert modernized_stage(current)["student"] == {"init": "projected"}
    assert modernized_stage(current)["objective"]["attention"] == "none"
    assert "attention" not in modernized_stage({"kind": "train", "objective": {"name": "finetune"}})["objective"]
