"""The same job under several seeds: which stages are repeated, and how the copies are wired."""

import pytest

from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.sections.data import DistillationData, LabelledData, TokenData
from kd_dist.config.sections.evaluation import Evaluate, ReportOptions
from kd_dist.config.sections.models import Student, Teacher, TokenizerSource
from kd_dist.config.sections.training import Train
from kd_dist.config.seeds import seed_of, with_seeds
from kd_dist.config.stages import EvaluateStage, LabelledStage, ReportStage, TeacherOutputsStage, TrainStage
from kd_dist.errors import UserError

TOKENS = "@prepare/tokens"


def training(**changes: object) -> TrainStage:
    settings: dict[str, object] = {
        "teacher": Teacher(path="teacher"),
        "student": Student(),
        "data": TokenData(tokens=TOKENS, teacher_outputs="@outputs/outputs"),
        "objective": SoftLabelsObjective(),
        "train": Train(seed=42),
    }
    return TrainStage.model_validate(settings | changes)


@pytest.fixture
def job() -> Job:
    rows = DistillationData(tokens=TOKENS)
    models = {"teacher": "teacher", "student": "@distill/export", "alone": "@alone/export"}
    return Job(
        name="task",
        description="a task",
        stages={
            "prepare": LabelledStage(data=LabelledData(train=["a.tsv"]), tokenizer=TokenizerSource(path="teacher")),
            "outputs": TeacherOutputsStage(teacher=Teacher(path="teacher"), data=rows),
            "layers": training(),
            "distill": training(student=Student(path="@layers/export")),
            "alone": training(objective=FinetuneObjective(), train=Train(seed=7)),
            "evaluate": EvaluateStage(evaluate=Evaluate(models=models), data=rows),
            "report": ReportStage(page=ReportOptions(stages=["@evaluate"])),
        },
        result="distill",
        seeded=["layers", "distill", "alone"],
    )


def test_one_seed_is_the_job_itself(job: Job) -> None:
    assert with_seeds(job, 1) == job


def test_copies_follow_their_stages_and_nothing_else_is_repeated(job: Job) -> None:
    assert list(with_seeds(job, 3).stages) == [
        "prepare",
        "outputs",
        *("layers", "layers_seed43", "layers_seed44"),
        *("distill", "distill_seed43", "distill_seed44"),
        *("alone", "alone_seed43", "alone_seed44"),
        "evaluate",
        "report",
    ]


def test_seed_of_a_copy_is_that_of_its_models(job: Job) -> None:
    seeds = {name: seed for name in with_seeds(job, 3).stages if (seed := seed_of(name)) is not None}
    assert seeds == {f"{name}_seed{seed}": seed for name in job.seeded for seed in (43, 44)}
    models = with_seeds(job, 3).stages["evaluate"].evaluate.models
    copies = {name: path for name, path in models.items() if "@" in name}
    assert all(name.endswith(f"@{seed_of(path[1:].split('/')[0])}") for name, path in copies.items())


def test_copies_differ_from_their_stage_in_seed_and_wires_alone(job: Job) -> None:
    stages = with_seeds(job, 2).stages
    assert stages["layers_seed43"] == training(train=Train(seed=43))
    assert stages["distill_seed43"] == training(student=Student(path="@layers_seed43/export"), train=Train(seed=43))
    assert stages["alone_seed43"].train.seed == 8
    assert [stages[name] for name in job.seeded] == [job.stages[name] for name in job.seeded]


def test_copies_of_scored_models_are_scored_too(job: Job) -> None:
    models = with_seeds(job, 3).stages["evaluate"].evaluate.models
    assert models == {
        "teacher": "teacher",
        "student": "@distill/export",
        "alone": "@alone/export",
        "student@43": "@distill_seed43/export",
        "student@44": "@distill_seed44/export",
        "alone@43": "@alone_seed43/export",
        "alone@44": "@alone_seed44/export",
    }
    assert next(iter(models)) == "teacher"  # the others are compared with the first


def test_report_waits_for_what_it_waited_for_and_every_wire_leads_somewhere(job: Job) -> None:
    repeated = with_seeds(job, 3)
    assert repeated.stages["report"] == job.stages["report"]
    assert repeated.wire_problems() == []
    assert "distill_seed44" in repeated.edges()["evaluate"]


def test_repeating_a_repeated_job_changes_nothing(job: Job) -> None:
    assert with_seeds(with_seeds(job, 3), 3) == with_seeds(job, 3)


def test_job_without_seeded_stages_is_refused(job: Job) -> None:
    with pytest.raises(UserError, match="--seeds 2: job `task` has no stage that can be repeated"):
        with_seeds(job.model_copy(update={"seeded": []}), 2)
