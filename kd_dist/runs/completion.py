"""Mark stages and shards as complete, and find those that are not."""

from datetime import datetime
from pathlib import Path
from typing import Any

from kd_dist.files import link, read_json, write_json
from kd_dist.runs.fingerprints import stage_fingerprint


def companions(stage_dir: Path) -> list[Path]:
    """Return the other stages of the run whose students are trained together with that of a stage."""
    job = stage_dir.parent / "job.json"
    groups = read_json(job).get("together", {}).values() if job.exists() else []
    own: list[str] = next((names for names in groups if stage_dir.name in names), [])
    return [stage_dir.parent / name for name in own if name != stage_dir.name]


def unfinished_together(stage_dir: Path) -> list[Path]:
    """Return the stage, and those that are trained together with it and are not complete."""
    return [stage_dir, *(other for other in companions(stage_dir) if not is_complete(other))]


def is_complete(stage_dir: Path) -> bool:
    """Return whether the stage has finished with its present inputs."""
    return _marked(stage_dir / "COMPLETE", fingerprint=stage_fingerprint(stage_dir))


def unfinished_shards(stage_dir: Path, shards: int) -> list[int]:
    """Return the shards, of `shards` in all, that have not finished with the present inputs of the stage."""
    expected = {"fingerprint": stage_fingerprint(stage_dir), "shards": shards}
    return [shard for shard in range(shards) if not _marked(shard_marker(stage_dir, shard), **expected)]


def shards_to_run(stage_dir: Path, shards: int) -> list[int]:
    """Return the shards to run: the unfinished ones, or any one if only the stage's own marker is missing."""
    return unfinished_shards(stage_dir, shards) or [0]


def drop_stale_markers(stage_dir: Path, shards: int) -> None:
    """Remove the markers of shards that were run with another number of shards: their files may be overwritten."""
    for marker in stage_dir.glob("shard_*.COMPLETE"):
        if not _marked(marker, shards=shards):
            marker.unlink()


def shard_marker(stage_dir: Path, shard: int) -> Path:
    """Return the path of the file that marks a shard as complete."""
    return stage_dir / f"shard_{shard:05d}.COMPLETE"


def _marked(marker: Path, **expected: Any) -> bool:
    return marker.exists() and read_json(marker).items() >= expected.items()


def mark_complete(marker: Path, seconds: float, **content: Any) -> None:
    """Write a marker with the stage's fingerprint, the time it took and `content`."""
    fingerprint = stage_fingerprint(marker.parent)
    finished = datetime.now().isoformat(timespec="seconds")
    write_json(marker, {"fingerprint": fingerprint, **content, "seconds": round(seconds, 1), "finished": finished})


def complete(stage_dir: Path, seconds: float) -> None:
    """Link the run's `export` to the stage if it is the job's result, and mark the stage as complete.

    Of several students that are the result, `export` is a folder with a link to each.
    """
    run_dir = stage_dir.parent
    job, export = read_json(run_dir / "job.json"), run_dir / "export"
    students = job.get("together", {}).get(job["result"], [])
    if job["result"] == stage_dir.name and (stage_dir / "export").is_dir():
        link(export, Path(stage_dir.name) / "export")
    elif stage_dir.name in students:
        export.mkdir(exist_ok=True)
        link(export / stage_dir.name.removeprefix(f"{job['result']}_"), Path("..") / stage_dir.name / "export")
    mark_complete(stage_dir / "COMPLETE", seconds)  # last: a stage that is complete is never run again
