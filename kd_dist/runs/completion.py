"""Which stages and shards are complete."""

from datetime import datetime
from pathlib import Path
from typing import Any

from kd_dist.files import link, read_json, write_json
from kd_dist.runs.fingerprints import stage_fingerprint


def is_complete(stage_dir: Path) -> bool:
    """Whether the stage has run to its end with the inputs that it has now."""
    return _marked(stage_dir / "COMPLETE", fingerprint=stage_fingerprint(stage_dir))


def unfinished_shards(stage_dir: Path, shards: int) -> list[int]:
    """Of so many shards those that have not run to their end with the inputs that the stage has now."""
    expected = {"fingerprint": stage_fingerprint(stage_dir), "shards": shards}
    return [shard for shard in range(shards) if not _marked(shard_marker(stage_dir, shard), **expected)]


def shards_to_run(stage_dir: Path, shards: int) -> list[int]:
    """The unfinished shards; where only the mark of the whole stage is missing, any shard sets it."""
    return unfinished_shards(stage_dir, shards) or [0]


def drop_other_divisions(stage_dir: Path, shards: int) -> None:
    """Shards of another number of shards may be overwritten from now on: they must not count when it comes back."""
    for marker in stage_dir.glob("shard_*.COMPLETE"):
        if not _marked(marker, shards=shards):
            marker.unlink()


def shard_marker(stage_dir: Path, shard: int) -> Path:
    return stage_dir / f"shard_{shard:05d}.COMPLETE"


def _marked(marker: Path, **expected: Any) -> bool:
    return marker.exists() and read_json(marker).items() >= expected.items()


def mark_complete(marker: Path, seconds: float, **content: Any) -> None:
    fingerprint = stage_fingerprint(marker.parent)
    finished = datetime.now().isoformat(timespec="seconds")
    write_json(marker, {"fingerprint": fingerprint, **content, "seconds": round(seconds, 1), "finished": finished})


def complete(stage_dir: Path, seconds: float) -> None:
    """Mark the stage as complete; the stage that gives the job its result also becomes the run's `export`."""
    mark_complete(stage_dir / "COMPLETE", seconds)
    run_dir = stage_dir.parent
    job = read_json(run_dir / "job.json")
    if job["result"] == stage_dir.name and (stage_dir / "export").is_dir():
        link(run_dir / "export", Path(stage_dir.name) / "export")
