"""What every file in jobs/ promises."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, job_names
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.base import Section
from kd_dist.config.stage import Stage
from kd_dist.errors import UserError
from kd_dist.planning.checks import check_job
from launch.cluster import Cluster
from tests.loading import load_job

JOBS = job_names()
HEAVY = {"torch", "transformers", "deepspeed", "datasets", "wandb", "submitit"}


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
    check_job(load_job(name, []), reads_files=False)


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
    code = (
        f"import sys, kd_dist.config.jobs, kd_dist.planning.checks, kd_dist.runs.layout, {modules}; print(*sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not HEAVY & set(shown.stdout.split())


# ------------------------------------------------------------------------------------- what settings make of `tinybert`


# ------------------------------------------------------------------------------------- what settings make of `fastbert`


@pytest.mark.parametrize("name", ["fastbert", "fastbert_stage1"])
def test_a_dry_run_shows_the_stages_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    script = [sys.executable, str(REPOSITORY / "launch" / "slurm.py"), "--job", name, "--dry-run", "--verbose"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"sbatch file of {stage}" in done.stdout for stage in load_job(name, []).stages)
    assert not (tmp_path / "runs").exists()
