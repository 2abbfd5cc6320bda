"""Jobs by name, resolved: overlay and overrides applied, and adapted to what they say."""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_dist.config.former_runs import modernized_job
from kd_dist.config.job import Job
from kd_dist.config.overrides import (
    apply_overrides,
    flatten,
    join_problems,
    options_of,
    read_overlay,
    split_override,
    validated_job,
)
from kd_dist.config.paths import REPOSITORY
from kd_dist.errors import UserError, nearest


def job_names() -> list[str]:
    """Every file in jobs/ is a job."""
    return sorted(module.name for module in pkgutil.iter_modules([str(REPOSITORY / "jobs")]))


def find_job(name: str) -> Job:
    """The job as its file in jobs/ describes it, before any override."""
    if name not in job_names():
        raise UserError(f"unknown job `{name}`{nearest(name, job_names())}; there are: {', '.join(job_names())}")
    return importlib.import_module(f"jobs.{name}").JOB


def load_job(name: str, overrides: list[str], overlay: Path | None = None) -> Job:
    """The job with the overlay file and then the `key=value` overrides applied; every problem reported at once.

    Raises:
        UserError: unknown or wired keys, values of the wrong type, or settings that contradict each other.
    """
    job, problems = resolve_job(name, overrides, overlay)
    if problems or job is None:
        raise UserError(join_problems(problems))
    return job


def resolve_job(name: str, overrides: list[str], overlay: Path | None = None) -> tuple[Job | None, list[str]]:
    """Apply overlay and overrides as far as they can be; return the job and what is wrong with them."""
    job = find_job(name)
    problems: list[str] = []
    content = read_overlay(overlay)
    typed = [pair for text in overrides if (pair := split_override(text, problems))]
    if is_rerun := {"name", "stages"} <= content.keys():  # the job.json of a run
        job = _job_of_a_run(content, name, overlay)
    else:
        by_stage = content["stages"] if isinstance(content.get("stages"), Mapping) else content
        typed = [*flatten(by_stage, "", options_of(job)), *typed]
    settings = job.model_dump()
    apply_overrides(job, settings, typed, problems)
    settings["given"] = job.given | dict(typed)
    resolved = validated_job(settings, problems)
    if resolved is not None and not is_rerun:
        try:
            resolved = _adapted(resolved)
        except UserError as error:  # one problem among others
            problems.append(str(error))
    if resolved is not None:
        problems += [f"{stage}: {text}" for stage, part in resolved.stages.items() for text in part.problems()]
        if wire_problems := resolved.wire_problems():
            return None, problems + wire_problems
    return resolved, problems


def _job_of_a_run(content: Mapping[str, Any], name: str, overlay: Path | None) -> Job:
    if content.get("name") != name:
        raise UserError(f"--config {overlay} describes the job `{content.get('name')}`, not `{name}`")
    problems: list[str] = []
    job = validated_job(modernized_job(dict(content)), problems)
    if job is None:
        raise UserError(f"--config {overlay}: {join_problems(problems)}")
    return job


def _adapted(job: Job) -> Job:
    """What the settings make of the job's stages, where its file has something to say about that."""
    adapt = getattr(importlib.import_module(f"jobs.{job.name}"), "adapt", None)
    return adapt(job) if adapt is not None else job
