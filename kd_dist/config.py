"""Jobs by name, and what the command line and an overlay file make of them.

No torch: a login node resolves and validates a job in a blink.
"""

import importlib
import json
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kd_dist.errors import UserError, nearest
from kd_dist.stages import KINDS, OBJECTIVES, AnyStage, Job

REPOSITORY = Path(__file__).resolve().parent.parent


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
    """The job with overlay and overrides applied as far as they can be, and what is wrong with them."""
    job = find_job(name)
    problems: list[str] = []
    content = _read_overlay(overlay)
    pairs = [_split_override(text, problems) for text in overrides]
    if is_rerun := {"name", "stages"} <= content.keys():  # the job.json of a run
        job = _job_of_a_run(content, name, overlay)
    else:
        by_stage = content["stages"] if isinstance(content.get("stages"), Mapping) else content
        pairs = [*_flatten(by_stage, "", _options(job)), *pairs]
    settings = job.model_dump()
    for key, value in (pair for pair in pairs if pair is not None):
        _apply(job, settings, key, value, problems)
    resolved = _validated(settings, problems)
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
    job = _validated(dict(content), problems)
    if job is None:
        raise UserError(f"--config {overlay}: {join_problems(problems)}")
    return job


def _adapted(job: Job) -> Job:
    """What the settings make of the job's stages, where its file has something to say about that."""
    adapt = getattr(importlib.import_module(f"jobs.{job.name}"), "adapt", None)
    return adapt(job) if adapt is not None else job


def join_problems(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} problems:\n" + "\n".join(f"  - {problem}" for problem in problems)


def _split_override(text: str, problems: list[str]) -> tuple[str, Any] | None:
    key, sign, value = text.partition("=")
    if not sign:
        problems.append(f"`{text}` is not of the form key=value (for example train.steps=300)")
        return None
    return key.strip(), value


def _read_overlay(overlay: Path | None) -> Mapping[str, Any]:
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


def _options(job: Job) -> set[str]:
    """Every `section.key` and `stage.section.key` of a job."""
    keys = {key for stage in job.stages.values() for key in stage.options()}
    return keys | {f"{name}.{key}" for name, stage in job.stages.items() for key in stage.options()}


def _flatten(content: Mapping[str, Any], prefix: str, options: set[str]) -> Iterator[tuple[str, Any]]:
    """Nested keys as dotted ones, in the order of the file; a setting may itself be a map."""
    for key, value in content.items():
        if isinstance(value, Mapping) and f"{prefix}{key}" not in options:
            yield from _flatten(value, f"{prefix}{key}.", options)
        else:
            yield f"{prefix}{key}", value


def _apply(job: Job, settings: dict[str, Any], key: str, value: Any, problems: list[str]) -> None:
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
    return f"unknown option `{key}`{nearest(key, _options(job))}"


def _validated(settings: dict[str, Any], problems: list[str]) -> Job | None:
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


def read_stage(stage_dir: Path) -> Any:
    """The stage as its run folder describes it."""

    adapter: TypeAdapter[Any] = TypeAdapter(AnyStage)
    return adapter.validate_python(json.loads((stage_dir / "config.json").read_text(encoding="utf-8")))


def model_config_file(name: str) -> Path:
    """The architecture file that `student.config` names: one of ours by name, or any path.

    Raises:
        UserError: there is no such file.
    """
    shipped = REPOSITORY / "configs" / "models"
    candidates = [shipped / f"{name.removesuffix('.json')}.json", Path(name), REPOSITORY / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = [path.stem for path in sorted(shipped.glob("*.json"))]
    raise UserError(f"student.config={name}: no such file{nearest(name, names)}; shipped are: {', '.join(names)}")
