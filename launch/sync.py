"""`--sync RUN`: upload to W&B what a run has kept because it was offline, or had no network when it ended."""

import subprocess
import sys
from pathlib import Path

from kd_dist.runs.wandb_run import UNSENT
from launch.start import require_idle


def sync(run_dir: Path) -> int:
    """Upload the segments of all stages, oldest first, and return the exit status; those that were are skipped.

    Args:
        run_dir: The folder of the run.

    Raises:
        UserError: The run still runs: W&B would take what it has now for all of it.
    """
    require_idle(run_dir)
    run_dir = run_dir.absolute()
    segments = [
        *run_dir.glob("*/wandb/offline-run-*"),
        *(path.parent for path in run_dir.glob(f"*/wandb/run-*/{UNSENT}")),
    ]
    if not segments:
        print(f"nothing to upload: run {run_dir.name} has kept nothing for W&B")
        return 0
    oldest_first = sorted(segments, key=lambda path: path.name.removeprefix("offline-"))
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, oldest_first)]
    place = oldest_first[0].parents[1]  # where W&B keeps the log of the upload, instead of where the user is
    return 1 if subprocess.run(command, cwd=place).returncode else 0
