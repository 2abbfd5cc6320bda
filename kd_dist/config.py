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
from kd_dist.stages import AnyStage, Job

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
    settings = job.model_dump()
    pairs = [*_overlay_pairs(job, overlay), *(_split_override(text, problems) for text in overrides)]
    for key, value in (pair for pair in pairs if pair is not None):
        _apply(job, settings, key, value, problems)
    resolved = _validated(settings, problems)
    if resolved is not None:
        problems += [f"{stage}: {text}" for stage, part in resolved.stages.items() for text in part.problems()]
        if wire_problems := resolved.wire_problems():
            return None, problems + wire_problems
    return resolved, problems


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


def _overlay_pairs(job: Job, overlay: Path | None) -> list[tuple[str, Any]]:
    """The overlay's nested keys as dotted ones, in the order of the file."""
    if overlay is None:
        return []
    import yaml  # only here: yaml costs a login node time

    try:
        content = yaml.safe_load(overlay.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {overlay}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {overlay} is not valid YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"--config {overlay}: expected `section:` with keys below it, found {type(content).__name__}")
    if isinstance(content.get("stages"), Mapping):  # the job.json of a run: the same settings again
        pairs = _flatten(content["stages"], "")
        return [(key, value) for key, value in pairs if not _is_fixed(key, value)]
    return list(_flatten(content, ""))


def _is_fixed(key: str, value: Any) -> bool:
    """What a job.json holds beside settings: the kinds of stages and objectives, and sections that are not there."""
    return key.endswith((".kind", ".objective.name")) or (value is None and key.count(".") == 1)


def _flatten(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
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
    valid = {key for stage in job.stages.values() for key in stage.options()}
    valid |= {f"{name}.{key}" for name, stage in job.stages.items() for key in stage.options()}
    return f"unknown option `{key}`{nearest(key, valid)}"


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
    tags = {"prepare", "train", "report", "sample_text", "tinybert", "mlm"}
    if len(parts) > 2 and parts[1] in tags:
        del parts[1]
    if len(parts) > 3 and parts[1] == "objective" and parts[2] in tags:
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
