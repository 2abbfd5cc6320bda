"""Apply `key=value` overrides and overlay files to the settings of a job."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kd_dist.config.job import Job
from kd_dist.config.stages import KINDS, OBJECTIVES
from kd_dist.config.students import STUDENTS
from kd_dist.config.yaml_files import read_yaml


def join_problems(problems: list[str]) -> str:
    """Return one message for all problems: a single one as it is, several as a list."""
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} problems:\n" + "\n".join(f"  - {problem}" for problem in problems)


def split_override(text: str, problems: list[str]) -> tuple[str, Any] | None:
    """Split `key=value`; add a message to `problems` and return None where there is no equals sign."""
    key, sign, value = text.partition("=")
    if not sign:
        problems.append(f"`{text}` is not of the form key=value; write for example train.steps=300")
        return None
    return key.strip(), value


def specific_last(given: list[tuple[str, Any]], job: Job) -> list[tuple[str, Any]]:
    """Return keys and values with those of one stage behind those of all stages, so that they win.

    Those of a stage that was copied for each of several students are between the two.
    """

    def place(pair: tuple[str, Any]) -> int:
        stage = pair[0].partition(".")[0]
        return 2 if stage in job.stages else 1 if stage in job.together else 0

    return sorted(given, key=place)


def read_overlay(overlay: Path | None) -> Mapping[str, Any]:
    """Read a YAML (or JSON) file of settings; no file holds no settings.

    Raises:
        UserError: The file cannot be read, or is not a mapping.
    """
    if overlay is None:
        return {}
    return read_yaml(overlay, f"--config {overlay}")


def options_of(job: Job) -> set[str]:
    """Return every key that can be set: `section.key`, `stage.section.key`, and the keys that others follow."""
    keys = {key for stage in job.stages.values() for key in stage.options()} | job.follows.keys()
    keys |= {STUDENTS} if job.students_of else set()
    names = {name: {name, job.copied(name)} for name in job.stages}
    return keys | {
        f"{name}.{key}" for stage in job.stages for name in names[stage] for key in job.stages[stage].options()
    }


def flatten(content: Mapping[str, Any], prefix: str, options: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield nested keys as dotted ones, in the order of the file; a map below a key in `options` is its value."""
    for key, value in content.items():
        if isinstance(value, Mapping) and f"{prefix}{key}" not in options:
            yield from flatten(value, f"{prefix}{key}.", options)
        else:
            yield f"{prefix}{key}", value


def apply_overrides(job: Job, settings: dict[str, Any], given: list[tuple[str, Any]], problems: list[str]) -> list[str]:
    """Put the given values into `settings`, and into the settings that follow one of them and are not given.

    `section.key` reaches every stage that has the key, except fields that an earlier stage feeds; `stage.section.key`
    sets such a field as well, which removes the edge.

    Args:
        job: The job that is changed.
        settings: Its content (`Job.model_dump()`), changed in place.
        given: Keys and values in order; a later value replaces an earlier one.
        problems: Receives a message for each key that an earlier stage feeds everywhere.

    Returns:
        The keys that the job does not have.
    """
    values = dict(given)
    for key in (key for key in job.follows if key in values):  # in the job's order, not in that of the command line
        for follower in (name for name in job.follows[key] if name not in job.given):
            for target in _unwired(job, follower):
                _put(settings, target, follower, values[key])
    for key, value in given:
        if key in job.follows and not _unwired(job, key):
            continue  # it exists only for its followers
        for target, option in _targets(job, key, problems):
            _put(settings, target, option, value)
    return [key for key, _ in given if key not in options_of(job)]


def _targets(job: Job, key: str, problems: list[str]) -> list[tuple[str, str]]:
    """Return the (stage, `section.key`) of every field that the key sets."""
    stage, _, option = key.partition(".")
    if names := [stage] if stage in job.stages else job.together.get(stage):
        return [(name, option) for name in names if option in set(job.stages[name].options())]
    having, free = _stages_with(job, key), _unwired(job, key)
    if having and not free:
        exact = " or ".join(f"{name}.{key}=..." for name in having)
        problems.append(f"`{key}` is fed by an earlier stage; {exact} replaces the output of that stage")
    return [(name, key) for name in free]


def _stages_with(job: Job, key: str) -> list[str]:
    return [name for name, stage in job.stages.items() if key in set(stage.options())]


def _unwired(job: Job, key: str) -> list[str]:
    return [name for name in _stages_with(job, key) if key not in job.stages[name].wires()]


def _put(settings: dict[str, Any], stage: str, option: str, value: Any) -> None:
    section, field = option.split(".")
    settings["stages"][stage][section][field] = value


def validated_job(settings: dict[str, Any], problems: list[str]) -> Job | None:
    """Build a job from its content; add a message to `problems` for each invalid value and return None."""
    try:
        return Job.model_validate(settings)
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"] if part not in ("stages", "train_stage"))
            text = _without_tags(where)
            said = item["msg"].removeprefix("Value error, ")
            problem = f"{text}: {said[0].lower()}{said[1:]}, but got {item['input']!r}"
            problems.append(problem)
        return None


def _without_tags(where: str) -> str:
    """Remove the union tags in a location of pydantic: `distill.train.train.steps` becomes `distill.train.steps`."""
    parts = where.split(".")
    if len(parts) > 2 and parts[1] in KINDS:
        del parts[1]
    if len(parts) > 3 and parts[1] == "objective" and parts[2] in OBJECTIVES:
        del parts[2]
    return ".".join(parts)
