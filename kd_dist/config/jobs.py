"""Find a job by name, apply an overlay and overrides to it, and adapt its stages to the result."""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kd_dist.config.access_keys import refuse_access_keys
from kd_dist.config.former_runs import modernized_job
from kd_dist.config.job import Job
from kd_dist.config.lengths import with_more_steps_for_several_labels
from kd_dist.config.overrides import (
    apply_overrides,
    flatten,
    join_problems,
    options_of,
    read_overlay,
    specific_last,
    split_override,
    validated_job,
)
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.students import together_problems, with_students
from kd_dist.errors import UserError, nearest


def job_names() -> list[str]:
    """Return the names of all jobs: every module in jobs/ is one."""
    return sorted(module.name for module in pkgutil.iter_modules([str(REPOSITORY / "jobs")]))


def find_job(name: str) -> Job:
    """Return the job as its file in jobs/ describes it, before any override.

    Raises:
        UserError: There is no such job.
    """
    if name not in job_names():
        raise UserError(f"unknown job `{name}`{nearest(name, job_names())}; there are: {', '.join(job_names())}")
    return importlib.import_module(f"jobs.{name}").JOB


class Resolved(NamedTuple):
    """A job with settings applied as far as possible.

    Attributes:
        job: None where the settings do not make one.
        problems: a message for each.
        is_adapted: whether it has only the stages that the settings need.
    """

    job: Job | None
    problems: list[str]
    is_adapted: bool


def resolve_job(name: str, overrides: list[str], overlay: Path | None = None) -> Resolved:
    """Apply the overlay and the overrides as far as possible.

    Args:
        name: A job in jobs/.
        overrides: Settings of the form `key=value`; they take precedence over the overlay. Those of one stage take
            precedence over those of all stages, in whatever order, and so they do within the overlay.
        overlay: A YAML file of settings, or the job.json of a run, which is repeated.

    Raises:
        UserError: There is no such job, the overlay cannot be read, or a setting holds an access key.
    """
    job = find_job(name)
    problems: list[str] = []
    content = read_overlay(overlay)
    typed, in_file = [pair for text in overrides if (pair := split_override(text, problems))], []
    if is_rerun := {"name", "stages"} <= content.keys():  # the job.json of a run
        job = _job_of_a_run(content, name, overlay)
    else:
        by_stage = content["stages"] if isinstance(content.get("stages"), Mapping) else content
        in_file = list(flatten(by_stage, "", options_of(job)))
    job = with_students(job, [*in_file, *typed], problems)
    resolved = _with_settings(job, [*specific_last(in_file, job), *specific_last(typed, job)], problems)
    is_adapted = True
    if resolved is not None and not is_rerun:
        try:
            resolved = _adapted(resolved)
        except UserError as error:  # one problem among others
            problems.append(str(error))
            is_adapted = False
    if resolved is not None:
        problems += [f"{name}: {text}" for name, stage in resolved.stages.items() for text in stage.problems(name)]
        problems += together_problems(resolved)
        if wire_problems := resolved.wire_problems():
            return Resolved(None, problems + wire_problems, is_adapted)
    return Resolved(resolved, problems, is_adapted)


def job_with_settings(name: str, overrides: list[str]) -> Job:
    """Return the job with settings applied, and with all of its stages: what they need may not be there yet.

    Raises:
        UserError: There is no such job, or a setting is wrong.
    """
    job = find_job(name)
    problems: list[str] = []
    typed = [pair for text in overrides if (pair := split_override(text, problems))]
    job = with_students(job, typed, problems)
    resolved = _with_settings(job, specific_last(typed, job), problems)
    if resolved is None or problems:
        raise UserError(join_problems(problems))
    return resolved


def _with_settings(job: Job, typed: list[tuple[str, Any]], problems: list[str]) -> Job | None:
    """Return the job with settings applied as far as possible, or None where they make none; add to the problems."""
    refuse_access_keys(typed)
    settings = job.model_dump()
    unknown = apply_overrides(job, settings, typed, problems)
    problems += [_unknown_option(key, job) for key in unknown]
    settings["given"] = job.given | dict(typed)
    return validated_job(settings, problems)


def _unknown_option(key: str, job: Job) -> str:
    """Return a message that names the nearest option of the job, and the jobs that have this very one."""
    having = [f"`{name}`" for name in job_names() if key in options_of(find_job(name))]
    others = f": {', '.join(having)} {'have' if len(having) > 1 else 'has'} it, `{job.name}` has not" if having else ""
    return f"unknown option `{key}`{others}{nearest(key, options_of(job))}"


def _job_of_a_run(content: Mapping[str, Any], name: str, overlay: Path | None) -> Job:
    """Return the job that a run's job.json describes."""
    if content.get("name") != name:
        raise UserError(
            f"--config {overlay} describes job `{content.get('name')}`, not `{name}`: use --job {content.get('name')}"
        )
    problems: list[str] = []
    job = validated_job(modernized_job(dict(content)), problems)
    if job is None:
        raise UserError(f"--config {overlay}: {join_problems(problems)}")
    return job


def _adapted(job: Job) -> Job:
    """Return the job fitted to the settings: by what it learns, and by the `adapt` function of its file, if it has one.

    Raises:
        UserError: What `adapt` raises.
    """
    job, notes = with_more_steps_for_several_labels(job)
    adapt = getattr(importlib.import_module(f"jobs.{job.name}"), "adapt", None)
    job = adapt(job) if adapt is not None else job
    return job.model_copy(update={"notes": [*job.notes, *notes]})
