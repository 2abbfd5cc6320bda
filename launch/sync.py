"""`--sync RUN`: upload to W&B what a run has kept because it was offline, or had no network when it ended."""

import itertools
import subprocess
import sys
from pathlib import Path

from kd_dist.runs.wandb_run import unsent_segments
from launch.start import require_idle


def sync(run_dir: Path) -> int:
    """Upload the segments of all stages, oldest first, and return the exit status; those that were are skipped.

    Args:
        run_dir: The folder of the run.

    Raises:
        UserError: The run still runs: W&B would take what it has now for all of it.
    """
    require_idle(run_dir)
    of_stages = [unsent_segments(path.parent) for path in sorted(run_dir.absolute().glob("*/wandb"))]
    if not any(of_stages):
        print(f"nothing to upload: run {run_dir.name} has kept nothing for W&B")
        return 0
    # W&B sorts the segments of a call by their clocks, which may differ: of each stage it gets one at a time.
    for segments in itertools.zip_longest(*of_stages):
        if not _upload([segment for segment in segments if segment is not None]):
            return 1
    return 0


def _upload(segments: list[Path]) -> bool:
    """Upload segments of different stages, and return whether that succeeded."""
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, segments)]
    place = segments[0].parents[1]  # where W&B keeps the log of the upload, instead of where the user is
    return subprocess.run(command, cwd=place).returncode == 0
