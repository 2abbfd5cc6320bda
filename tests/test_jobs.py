"""What every file in jobs/ promises."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from kd_dist.checks import check_job
from kd_dist.config import REPOSITORY, find_job, job_names, load_job
from kd_dist.errors import UserError
from kd_dist.sections import Section
from kd_dist.stages import Job, Stage
from launch.cluster import Cluster

JOBS = job_names()
HEAVY = {"torch", "transformers", "deepspeed", "datasets", "wandb", "submitit"}

PROMISED = [
    "teacher.path",
    "student.config",
    "data.corpus",
    "data.max_length",
    "data.pack",
    "train.steps",
    "train.epochs",
    "train.global_batch_size",
    "train.micro_batch_size",
    "train.seed",
    "optim.learning_rate",
    "optim.warmup_fraction",
    "engine.zero_stage",
    "engine.precision",
    "resources.nodes",
    "resources.gpus_per_node",
    "resources.timeout_minutes",
    "cadence.log_every_n_steps",
    "cadence.save_every_n_steps",
    "cadence.evaluate_every_n_steps",
    "objective.layer_map",
    "objective.compat",
    "objective.projection",
    "objective.temperature",
]


def sections() -> list[tuple[str, str, str]]:
    return [
        (job, stage, section)
        for job in JOBS
        for stage, settings in find_job(job).stages.items()
        for section, _ in settings.sections()
    ]


def all_sections(base: type[Section] = Section) -> Iterator[type[Section]]:
    for section in base.__subclasses__():
        if not issubclass(section, (Stage, Job)):
            yield section
        yield from all_sections(section)


@pytest.mark.parametrize("name", JOBS)
def test_job_resolves(name: str) -> None:
    check_job(load_job(name, []), needs_corpus=False)


@pytest.mark.parametrize("name", JOBS)
def test_file_and_name_agree(name: str) -> None:
    assert find_job(name).name == name


@pytest.mark.parametrize("name", JOBS)
def test_description_is_one_line(name: str) -> None:
    assert 10 < len(find_job(name).description) < 110
    assert "\n" not in find_job(name).description


@pytest.mark.parametrize("name", JOBS)
def test_result_is_a_stage(name: str) -> None:
    assert find_job(name).result in find_job(name).stages


def test_stage_names_and_section_names_are_disjoint() -> None:
    stages = {stage for name in JOBS for stage in find_job(name).stages}
    assert not stages & {section for _, _, section in sections()}


@pytest.mark.parametrize("name", JOBS)
def test_stages_come_after_those_that_feed_them(name: str) -> None:
    order = list(find_job(name).stages)
    for stage, settings in find_job(name).stages.items():
        assert settings.inputs() <= set(order[: order.index(stage)])


@pytest.mark.parametrize(("job", "stage", "section"), sections())
def test_every_section_rejects_a_misspelt_key(job: str, stage: str, section: str) -> None:
    key = next(key for key in find_job(job).stages[stage].options() if key.startswith(f"{section}."))
    misspelt = f"{stage}.{key[:-1]}"
    with pytest.raises(UserError) as caught:
        load_job(job, [f"{misspelt}=1"])
    assert str(caught.value) == f"unknown option `{misspelt}`; did you mean `{stage}.{key}`?"


@pytest.mark.parametrize(("job", "stage", "section"), sections())
def test_every_section_refuses_an_unknown_field(job: str, stage: str, section: str) -> None:
    settings = find_job(job).model_dump()
    settings["stages"][stage][section]["unheard_of"] = 1
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        type(find_job(job)).model_validate(settings)


@pytest.mark.parametrize("model", [*all_sections(), Cluster], ids=lambda model: model.__name__)
def test_every_field_has_a_description(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_jobs_and_configuration_import_nothing_heavy() -> None:
    modules = ", ".join(f"jobs.{name}" for name in JOBS)
    code = f"import sys, kd_dist.config, kd_dist.checks, kd_dist.runs, {modules}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not HEAVY & set(shown.stdout.split())


@pytest.mark.parametrize("key", PROMISED)
def test_tinybert_general_has(key: str) -> None:
    assert key in {key for stage in find_job("tinybert_general").stages.values() for key in stage.options()}


def test_tinybert_general_defaults() -> None:
    stages = find_job("tinybert_general").stages
    assert stages["prepare"].data.corpus == ["data/*.txt"]
    assert {stages[name].teacher.path for name in ("prepare", "distill")} == {"google-bert/bert-base-chinese"}


@pytest.mark.parametrize("file", sorted((REPOSITORY / "configs" / "models").glob("*.json")), ids=lambda file: file.stem)
def test_shipped_student_passes_the_checks(file: Path) -> None:
    check_job(load_job("pretrain", [f"student.config={file.stem}"]), needs_corpus=False)
