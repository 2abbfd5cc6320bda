"""The run folder: what is written before a run, who may continue it, and which of its stages are complete.

    runs/<job>/<run_id>/job.json environment.json results.json export
                        <stage>/config.json inputs.json results.json shard_00000.COMPLETE COMPLETE ...

Nothing here imports torch: login nodes write run folders.
"""

import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from glob import glob
from pathlib import Path
from typing import Any

from kd_dist.config import REPOSITORY, model_config_file, read_stage
from kd_dist.errors import RunError, UserError
from kd_dist.sections import Section, ShardResources, Student
from kd_dist.stages import WIRE, Job, Stage

SHARD = "KD_DIST_SHARD"
"""Environment variable: which of its shards a stage is to run."""

WORTH_KEEPING = ("COMPLETE", "shard_*.COMPLETE", "checkpoints/step_*")
"""What a stage has that would be lost, or would belong to nothing, if the stage were described anew."""

PACKAGES = (
    "torch",
    "transformers",
    "deepspeed",
    "datasets",
    "pyarrow",
    "pydantic",
    "submitit",
    "wandb",
    "jieba",
    "numpy",
)


def default_run_id() -> str:
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def with_absolute_paths(job: Job) -> Job:
    """The job with every local path made absolute; names of shipped models and hub names stay as they are.

    Jobs run from a snapshot of the code: what is typed relative to a folder would not be found from there.
    """

    def absolute(_: str, section: Section) -> Section:
        models = ("config",) if isinstance(section, Student) else ()
        section = section.with_changed(section.PATHS, lambda _, path: _absolute(path))
        return section.with_changed(
            section.MODELS + models, lambda _, path: _absolute(path) if Path(path).expanduser().exists() else path
        )

    return job.with_stages(lambda stage: stage.with_sections(absolute))


def _absolute(path: str) -> str:
    return path if path.startswith(WIRE) else str(Path(path).expanduser().absolute())


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
            _drop_other_divisions(run_dir / name, stage.resources.shards)
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
    before = json.loads((run_dir / "job.json").read_text(encoding="utf-8"))["stages"]
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
    files = json.loads((stage_dir / "inputs.json").read_text(encoding="utf-8"))["files"]
    return lines if files == input_files(stage) else [*lines, f"{stage_dir.name}: its input files have changed"]


def fingerprints(job: Job) -> dict[str, str]:
    """Stage -> hash of its settings, its input files, and the fingerprints of the stages that feed it."""
    found: dict[str, str] = {}
    for name, inputs in job.edges().items():
        stage = job.stages[name]
        parts = [stage.identity(), input_files(stage), [found[other] for other in inputs]]
        found[name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return found


def input_files(stage: Any) -> list[list[Any]]:
    """(path, bytes, time of change) of every local file that the settings name; architectures by their content."""
    paths = [Path(found) for _, pattern in stage.named_paths() for found in _files_at(pattern)]
    rows: list[list[Any]] = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    if getattr(stage, "student", None) is not None:
        content = model_config_file(stage.student.config).read_bytes()
        rows.append([stage.student.config, hashlib.sha256(content).hexdigest()])
    return rows


def _files_at(pattern: str) -> list[str]:
    found = [pattern] if os.path.exists(pattern) else sorted(glob(pattern, recursive=True))
    nested = [
        sorted(str(file) for file in Path(path).rglob("*") if file.is_file()) for path in found if os.path.isdir(path)
    ]
    return [path for path in found if os.path.isfile(path)] + [file for files in nested for file in files]


def environment() -> dict[str, Any]:
    """Versions and the state of the code: an allow-list, so that no secret of the environment is ever written."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": git_state(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state() -> dict[str, Any]:
    """Commit and whether tracked files differ from it; the snapshot of a run carries it along in GIT_STATE.json."""
    carried = REPOSITORY / "GIT_STATE.json"
    if carried.exists():
        return json.loads(carried.read_text(encoding="utf-8"))

    def git(*arguments: str) -> str | None:
        try:
            result = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return result.stdout.strip()

    return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "--untracked-files=no"))}


@contextmanager
def rebuilt_export(stage_dir: Path) -> Iterator[Path]:
    """A new, empty folder that becomes `stage_dir`/export as a whole, in place of an older one, or not at all."""
    place, temporary = stage_dir / "export", stage_dir / ".export.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(place, ignore_errors=True)
    os.rename(temporary, place)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    # The process id alone is not unique: nodes share the folder, and shards end at the same time.
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_job(run_dir: Path) -> Job:
    """The resolved job as its run folder describes it."""
    return Job.model_validate_json((run_dir / "job.json").read_text(encoding="utf-8"))


def stage_fingerprint(stage_dir: Path) -> str:
    return json.loads((stage_dir / "inputs.json").read_text(encoding="utf-8"))["fingerprint"]


def is_complete(stage_dir: Path) -> bool:
    """Whether the stage has run to its end with the inputs that it has now."""
    return _marked(stage_dir / "COMPLETE", fingerprint=stage_fingerprint(stage_dir))


def unfinished_shards(stage_dir: Path, shards: int) -> list[int]:
    """Of so many shards those that have not run to their end with the inputs that the stage has now."""
    expected = {"fingerprint": stage_fingerprint(stage_dir), "shards": shards}
    return [shard for shard in range(shards) if not _marked(_shard_marker(stage_dir, shard), **expected)]


def shards_to_run(stage_dir: Path, shards: int) -> list[int]:
    """The unfinished shards; where only the mark of the whole stage is missing, any shard sets it."""
    return unfinished_shards(stage_dir, shards) or [0]


def _drop_other_divisions(stage_dir: Path, shards: int) -> None:
    """Shards of another number of shards may be overwritten from now on: they must not count when it comes back."""
    for marker in stage_dir.glob("shard_*.COMPLETE"):
        if not _marked(marker, shards=shards):
            marker.unlink()


def _shard_marker(stage_dir: Path, shard: int) -> Path:
    return stage_dir / f"shard_{shard:05d}.COMPLETE"


def _marked(marker: Path, **expected: Any) -> bool:
    return marker.exists() and json.loads(marker.read_text(encoding="utf-8")).items() >= expected.items()


def _mark(marker: Path, seconds: float, **content: Any) -> None:
    fingerprint = stage_fingerprint(marker.parent)
    finished = datetime.now().isoformat(timespec="seconds")
    write_json(marker, {"fingerprint": fingerprint, **content, "seconds": round(seconds, 1), "finished": finished})


def complete(stage_dir: Path, seconds: float) -> None:
    """Mark the stage as complete; the stage that gives the job its result also becomes the run's `export`."""
    _mark(stage_dir / "COMPLETE", seconds)
    run_dir = stage_dir.parent
    job = json.loads((run_dir / "job.json").read_text(encoding="utf-8"))
    if job["result"] == stage_dir.name and (stage_dir / "export").is_dir():
        link(run_dir / "export", Path(stage_dir.name) / "export")


def link(path: Path, target: Path) -> None:
    """Make `path` a symbolic link to `target`, replacing an older link in one step."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    temporary.symlink_to(target)
    os.replace(temporary, path)


def run_stage(stage_dir: Path) -> None:
    """Run one stage on this rank; rank 0 marks it complete. A complete stage is left alone.

    Of a stage in shards, the one that KD_DIST_SHARD names; without it, all of them one after another.

    Raises:
        RunError: what the stage says is wrong; work had begun, whenever it finds that.
    """
    if is_complete(stage_dir):
        return
    stage = read_stage(stage_dir)
    entry = _entry(stage)
    if isinstance(stage.resources, ShardResources):
        _run_shards(stage_dir, entry, stage.resources.shards)
        return
    is_first = int(os.environ.get("RANK", "0")) == 0
    if is_first:
        gather_results(stage_dir.parent)  # stages that ended at the same time may have missed each other's
    started = time.monotonic()
    entry(stage_dir)
    if is_first:
        complete(stage_dir, time.monotonic() - started)


def _entry(stage: Stage) -> Callable[[Path], None]:
    """What runs the stage. A mistake that it finds comes as a RunError: the stages before it may have run for hours."""
    module, function = stage.entry.split(":")
    entry = getattr(importlib.import_module(module), function)

    def run(stage_dir: Path) -> None:
        try:
            entry(stage_dir)
        except RunError:
            raise
        except UserError as error:
            raise RunError(str(error)) from error

    return run


def _run_shards(stage_dir: Path, entry: Callable[[Path], None], shards: int) -> None:
    """Run shards; whichever finds that none is missing any more marks the stage complete."""
    named = os.environ.get(SHARD)
    try:
        for shard in unfinished_shards(stage_dir, shards):
            if named in (None, str(shard)):
                started = time.monotonic()
                os.environ[SHARD] = str(shard)
                entry(stage_dir)
                _mark(_shard_marker(stage_dir, shard), time.monotonic() - started, shards=shards)
    finally:
        if named is None:
            os.environ.pop(SHARD, None)
    if not unfinished_shards(stage_dir, shards):
        markers = [json.loads(_shard_marker(stage_dir, shard).read_text(encoding="utf-8")) for shard in range(shards)]
        complete(stage_dir, seconds=sum(marker["seconds"] for marker in markers))


def add_result(run_dir: Path, row: dict[str, Any]) -> None:
    """Put a row into the results of its stage, in place of an older one of the same model, seed, split and speed.

    Stages may run at the same time: a file that all of them read and wrote would lose rows.
    """
    path = run_dir / row["stage"] / "results.json"
    path.parent.mkdir(exist_ok=True)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    identity = ("model", "seed", "split", "speed")
    rows = [old for old in rows if any(old.get(name) != row.get(name) for name in identity)]
    write_json(path, [*rows, row])
    gather_results(run_dir)


def gather_results(run_dir: Path) -> None:
    """Write results.json of the run: the rows of all stages, oldest stage first."""
    files = sorted(run_dir.glob("*/results.json"), key=lambda file: file.stat().st_mtime_ns)
    if files:
        write_json(
            run_dir / "results.json", [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
        )
