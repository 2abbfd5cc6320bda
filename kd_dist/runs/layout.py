"""The run folder: write it before a run, and decide whether an existing one may be continued.

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
from kd_dist.config.stage import WIRE, Stage
from kd_dist.config.stages import AnyStage
from kd_dist.errors import UserError
from kd_dist.files import read_json, sweep_below, write_json
from kd_dist.runs.completion import drop_stale_markers
from kd_dist.runs.environment import environment
from kd_dist.runs.fingerprints import fingerprints, input_files, stage_fingerprint

PROGRESS = ("COMPLETE", "shard_*.COMPLETE", "checkpoints/step_*")
"""Files of a stage that has progress: with other settings, it would be lost or would belong to another stage."""

MAX_RUN_ID_BYTES = 200  # of the 255 that file systems take


def default_run_id() -> str:
    """Return a run id made of the present time."""
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def run_folder(runs_dir: Path, job: str, run_id: str) -> Path:
    """Return the path of a run, `runs_dir/<job>/<run_id>`.

    Raises:
        UserError: The run id is no name of a folder, or something on the way to the folder would misread its path.
    """
    is_one_name = run_id.isprintable() and "/" not in run_id and not run_id.startswith((".", "-", " "))
    if not run_id or not is_one_name or len(run_id.encode()) > MAX_RUN_ID_BYTES:
        raise UserError(
            f"--run-id {run_id!r}: it becomes the name of a folder in {runs_dir / job}; give one of at most "
            f"{MAX_RUN_ID_BYTES} bytes, without slashes, line breaks and the like, and without `.`, `-` or a space in "
            "front"
        )
    run_dir = runs_dir / job / run_id
    path = str(run_dir.absolute())
    # `:` separates the folders of PYTHONPATH, one of which is in the run; SLURM replaces `%j` in names of logs.
    wrong = next((letter for letter in path if letter in ":%\\" or not letter.isprintable()), None)
    if wrong is not None:
        raise UserError(
            f"{path!r} cannot be the folder of a run, for it holds {wrong!r}, which Python or SLURM would read "
            "as something else: choose another --runs-dir or --run-id"
        )
    return run_dir


def wired(stage: Stage, run_dir: Path) -> dict[str, Any]:
    """Return the stage's settings with every wire (`@stage/...`) replaced by a path in the run folder."""

    def replace(_: str, value: str) -> str:
        return str(run_dir / value.removeprefix(WIRE)) if value.startswith(WIRE) else value

    return stage.with_sections(
        lambda _, section: section.with_changed(tuple(type(section).model_fields), replace)
    ).model_dump()


def open_run(job: Job, runs_dir: Path, run_id: str) -> Path:
    """Write the run folder, or continue an existing run.

    A stage with progress (it is complete, or has a finished shard or a checkpoint) must have the same settings and
    input files as before. Any other stage may change, so that a failed stage can be fixed in place; its folder is
    cleared. What interrupted processes left half-written is removed, so nothing of the run may be running.

    A stage whose folder was removed starts over, and so does every stage that depends on it, whatever their progress:
    their results would describe a model or rows that no longer exist, and their checkpoints would continue from other
    ones than they started with. Their folders are cleared except for the logs.

    Args:
        job: The job, with absolute paths.
        runs_dir: The folder of all runs.
        run_id: The name of the run within its job.

    Returns:
        The run folder, `runs_dir/<job>/<run_id>`, as an absolute path.

    Raises:
        UserError: The run id belongs to a run with other settings or other input files, or is no name of a folder.
    """
    run_dir = run_folder(runs_dir, job.name, run_id).absolute()
    prints = fingerprints(job)
    sweep_below(run_dir)  # an earlier launch, or a stage, may have been killed as it wrote
    if (run_dir / "job.json").exists():
        _clear_changed_stages(job, run_dir, prints)
    for name, stage in job.stages.items():
        (run_dir / name / "log").mkdir(parents=True, exist_ok=True)
        write_json(run_dir / name / "config.json", wired(stage, run_dir))
        write_json(run_dir / name / "inputs.json", {"fingerprint": prints[name], "files": input_files(stage)})
        if isinstance(stage.resources, ShardResources):
            drop_stale_markers(run_dir / name, stage.resources.shards)
    write_json(run_dir / "environment.json", environment())
    write_json(run_dir / "job.json", job.model_dump())
    return run_dir


def _clear_changed_stages(job: Job, run_dir: Path, prints: dict[str, str]) -> None:
    """Clear the stages of an existing run that start over.

    Raises:
        UserError: A stage with progress has changed.
    """
    removed = stages_to_rebuild(job, run_dir)
    changed = [name for name in job.stages if name not in removed and prints[name] != stage_fingerprint(run_dir / name)]
    _refuse_another_run(job, run_dir, changed)
    if lost := [name for name in removed if _has_progress(run_dir / name)]:
        print(f"{', '.join(lost)}: starting over, because the folder of an earlier stage was removed", flush=True)
    for name in [*removed, *changed]:
        _clear(run_dir / name)


def stages_to_rebuild(job: Job, run_dir: Path) -> list[str]:
    """Return the stages of an existing run whose folders were removed, and all stages that depend on them."""
    if not (run_dir / "job.json").exists():
        return []
    return _with_dependents(job, [name for name in job.stages if not (run_dir / name / "inputs.json").exists()])


def _with_dependents(job: Job, names: list[str]) -> list[str]:
    """Return these stages and all that depend on them, in the order of the job."""
    found = set(names)
    for name, inputs in job.edges().items():  # a stage comes after all that feed it
        if found.intersection(inputs):
            found.add(name)
    return [name for name in job.stages if name in found]


def _has_progress(stage_dir: Path) -> bool:
    return any(any(stage_dir.glob(pattern)) for pattern in PROGRESS)


def _clear(stage_dir: Path) -> None:
    """Remove everything that a stage wrote except its logs: its tokenizer or W&B run must not pass to another."""
    for path in stage_dir.iterdir() if stage_dir.exists() else ():
        if path.is_dir() and not path.is_symlink():
            if path.name != "log":
                shutil.rmtree(path)
        else:
            path.unlink()


def _refuse_another_run(job: Job, run_dir: Path, changed: list[str]) -> None:
    """Refuse to continue a run of which a changed stage, or one that depends on it, has progress.

    Raises:
        UserError: It names every setting that differs.
    """
    before = modernized_job(read_json(run_dir / "job.json"))["stages"]
    differing = [f"{name}: the run has no such stage" for name in job.stages if name not in before]
    kept = {name for name in changed if _has_progress(run_dir / name)}
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
    """Return a line for each setting that has changed, and one if the input files have."""
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
    """Read the job of a run, with all settings resolved."""
    return Job.model_validate(modernized_job(read_json(run_dir / "job.json")))


def read_stage(stage_dir: Path) -> Any:
    """Read a stage of a run, with paths in place of wires."""
    adapter: TypeAdapter[Any] = TypeAdapter(AnyStage)
    return adapter.validate_python(modernized_stage(read_json(stage_dir / "config.json")))
