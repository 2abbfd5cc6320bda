"""The run folder: what is written before a run, who may continue it, and which of its stages are complete.

    runs/<job>/<run_id>/job.json environment.json results.json export
                        <stage>/config.json inputs.json results.json shard_00000.COMPLETE COMPLETE ...

Nothing here imports torch: login nodes write run folders.
"""

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from kd_dist.config.former_runs import modernized_job, modernized_stage
from kd_dist.config.job import Job
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stages import WIRE, AnyStage, Stage
from kd_dist.errors import UserError
from kd_dist.files import read_json, write_json
from kd_dist.runs.completion import drop_other_divisions
from kd_dist.runs.environment import environment
from kd_dist.runs.fingerprints import fingerprints, input_files, stage_fingerprint

WORTH_KEEPING = ("COMPLETE", "shard_*.COMPLETE", "checkpoints/step_*")
"""What a stage has that would be lost, or would belong to nothing, if the stage were described anew."""


def default_run_id() -> str:
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def wired(stage: Stage, run_dir: Path) -> dict[str, Any]:
    """The stage's settings with `@stage/...` replaced by paths in the run folder."""

    def replace(_: str, value: str) -> str:
        return str(run_dir / value.removeprefix(WIRE)) if value.startswith(WIRE) else value

    return stage.with_sections(
        lambda _, section: section.with_changed(tuple(type(section).model_fields), replace)
    ).model_dump()


def open_run(job: Job, runs_dir: Path, run_id: str) -> Path:
    """Write the run folder, or continue the one that is there.

    A stage with something worth keeping (it is complete, or has a shard or a checkpoint) must be described as it was
    and have the same input files. Any other may change, so that what failed can be mended in place; it begins in an
    empty folder.

    A stage whose folder was removed runs anew, and so does every stage that depends on it, whatever it had reached:
    a result would show a model or rows that are gone, and a checkpoint would go on learning from others than it began
    with. What they wrote is removed, but for their logs.

    Raises:
        UserError: the run id belongs to a run with other settings or other input files.
    """
    run_dir = (runs_dir / job.name / run_id).absolute()
    prints = fingerprints(job)
    if (run_dir / "job.json").exists():
        _make_way(job, run_dir, prints)
    for name, stage in job.stages.items():
        (run_dir / name / "log").mkdir(parents=True, exist_ok=True)
        write_json(run_dir / name / "config.json", wired(stage, run_dir))
        write_json(run_dir / name / "inputs.json", {"fingerprint": prints[name], "files": input_files(stage)})
        if isinstance(stage.resources, ShardResources):
            drop_other_divisions(run_dir / name, stage.resources.shards)
    write_json(run_dir / "environment.json", environment())
    write_json(run_dir / "job.json", job.model_dump())
    return run_dir


def _make_way(job: Job, run_dir: Path, prints: dict[str, str]) -> None:
    """Empty the stages of a run that is there that are to begin anew; refuse those that must not."""
    anew = stages_to_rebuild(job, run_dir)
    changed = [name for name in job.stages if name not in anew and prints[name] != stage_fingerprint(run_dir / name)]
    _refuse_another_run(job, run_dir, changed)
    if lost := [name for name in anew if _is_worth_keeping(run_dir / name)]:
        print(f"{', '.join(lost)}: to run anew, since the folder of a stage before was removed", flush=True)
    for name in [*anew, *changed]:
        _empty(run_dir / name)


def stages_to_rebuild(job: Job, run_dir: Path) -> list[str]:
    """The stages of a run that is there whose folders were removed, and all that depend on them."""
    if not (run_dir / "job.json").exists():
        return []
    return _with_dependents(job, [name for name in job.stages if not (run_dir / name / "inputs.json").exists()])


def _with_dependents(job: Job, names: list[str]) -> list[str]:
    found = set(names)
    for name, inputs in job.edges().items():  # a stage comes after all that feed it
        if found.intersection(inputs):
            found.add(name)
    return [name for name in job.stages if name in found]


def _is_worth_keeping(stage_dir: Path) -> bool:
    return any(any(stage_dir.glob(pattern)) for pattern in WORTH_KEEPING)


def _empty(stage_dir: Path) -> None:
    """Remove what a stage wrote, but for its logs: its tokenizer, blocks or W&B run must not go on as another's."""
    for path in stage_dir.iterdir() if stage_dir.exists() else ():
        if path.is_dir() and not path.is_symlink():
            if path.name != "log":
                shutil.rmtree(path)
        else:
            path.unlink()


def _refuse_another_run(job: Job, run_dir: Path, changed: list[str]) -> None:
    """Raise a UserError that says what differs, if one of the changed stages has something worth keeping.

    What a stage is fed belongs to it, so that the difference may lie in a stage before it.
    """
    before = modernized_job(read_json(run_dir / "job.json"))["stages"]
    differing = [f"{name}: a stage that the run does not have" for name in job.stages if name not in before]
    kept = {name for name in changed if _is_worth_keeping(run_dir / name)}
    concerned = [name for name in changed if name in before and kept.intersection(_with_dependents(job, [name]))]
    differing += [line for name in concerned for line in _differences(job.stages[name], before[name], run_dir / name)]
    if concerned and not differing:
        differing = [f"{name}: its description in jobs/ has changed" for name in concerned]
    if differing:
        raise UserError(
            f"run {run_dir.name} exists with another configuration:\n  "
            + "\n  ".join(differing)
            + "\nchoose another --run-id, or go back to the settings of that run to continue it"
        )


def _differences(stage: Any, before: dict[str, Any], stage_dir: Path) -> list[str]:
    """A line for each setting that is not as it was, and one if the input files are not."""
    lines = [
        f"{stage_dir.name}.{section}.{key}: {before[section].get(key)!r} -> {value!r}"
        for section, values in stage.identity().items()
        if isinstance(values, dict) and isinstance(before.get(section), dict)
        for key, value in values.items()
        if before[section].get(key) != value
    ]
    files = read_json(stage_dir / "inputs.json")["files"]
    return lines if files == input_files(stage) else [*lines, f"{stage_dir.name}: its input files have changed"]


def read_job(run_dir: Path) -> Job:
    """Read the resolved job as its run folder describes it."""
    return Job.model_validate(modernized_job(read_json(run_dir / "job.json")))


def read_stage(stage_dir: Path) -> Any:
    """Read a stage as its run folder describes it."""
    adapter: TypeAdapter[Any] = TypeAdapter(AnyStage)
    return adapter.validate_python(modernized_stage(read_json(stage_dir / "config.json")))
