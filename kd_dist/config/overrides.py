"""`key=value` overrides and overlay files, applied to the settings of a job."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kd_dist.config.job import Job
from kd_dist.config.stages import KINDS, OBJECTIVES
from kd_dist.errors import UserError, nearest


def join_problems(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} problems:\n" + "\n".join(f"  - {problem}" for problem in problems)


def split_override(text: str, problems: list[str]) -> tuple[str, Any] | None:
    key, sign, value = text.partition("=")
    if not sign:
        problems.append(f"`{text}` is not of the form key=value (for example train.steps=300)")
        return None
    return key.strip(), value


def read_overlay(overlay: Path | None) -> Mapping[str, Any]:
    if overlay is None:
        return {}
    import yaml  # only here: yaml costs a login node time

    try:
        content = yaml.safe_load(overlay.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {overlay}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {overlay} is not valid YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"--config {overlay}: expected `section:` with keys below it, found {type(content).__name__}")
    return content


def options_of(job: Job) -> set[str]:
    """Every `section.key` and `stage.section.key` of a job."""
    keys = {key for stage in job.stages.values() for key in stage.options()}
    return keys | {f"{name}.{key}" for name, stage in job.stages.items() for key in stage.options()}


def flatten(content: Mapping[str, Any], prefix: str, options: set[str]) -> Iterator[tuple[str, Any]]:
    """Nested keys as dotted ones, in the order of the file; a setting may itself be a map."""
    for key, value in content.items():
        if isinstance(value, Mapping) and f"{prefix}{key}" not in options:
            yield from flatten(value, f"{prefix}{key}.", options)
        else:
            yield f"{prefix}{key}", value


def apply_override(job: Job, settings: dict[str, Any], key: str, value: Any, problems: list[str]) -> None:
    stage_name, _, rest = key.partition(".")
    if stage_name in job.stages:
        if rest not in set(job.stages[stage_name].options()):
            problems.append(_unknown(key, job))
            return
        targets, target_key = [stage_name], rest
    else:
        having = [name for name, stage in job.stages.items() if key in set(stage.options())]
        targets, target_key = [name for name in having if key not in job.stages[name].wires()], key
        if not having:
            problems.append(_unknown(key, job))
        elif not targets:
            ways = " or ".join(f"{name}.{key}=..." for name in having)
            problems.append(f"`{key}` is fed by an earlier stage; {ways} sets it all the same and cuts that edge")
    for name in targets:
        section, field = target_key.split(".")
        settings["stages"][name][section][field] = value


def _unknown(key: str, job: Job) -> str:
    return f"unknown option `{key}`{nearest(key, options_of(job))}"


def validated_job(settings: dict[str, Any], problems: list[str]) -> Job | None:
    try:
        return Job.model_validate(settings)
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"] if part not in ("stages", "train_stage"))
            text = _without_tags(where)
            problem = f"{text}: {item['msg'][0].lower()}{item['msg'][1:]}, but got {item['input']!r}"
            problems.append(problem)
        return None


def _without_tags(where: str) -> str:
    """pydantic puts the tag of a union into the location: `distill.train.train.steps` is `distill.train.steps`."""
    parts = where.split(".")
    if len(parts) > 2 and parts[1] in KINDS:
        del parts[1]
    if len(parts) > 3 and parts[1] == "objective" and parts[2] in OBJECTIVES:
        del parts[2]
    return ".".join(parts)
