"""`--rehearse`: run every stage for real on a little of the data, in one process here, before anything is queued.

This finds in minutes what a queue shows after hours: a missing label, a model that does not load, a full disk.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kd_dist.config.job import Job
from kd_dist.config.paths import REPOSITORY, python_path
from kd_dist.config.sections.augmentation import Augment
from kd_dist.config.sections.base import Section
from kd_dist.config.sections.data import CorpusData, LabelledData
from kd_dist.config.sections.evaluation import Evaluate, Guards
from kd_dist.config.sections.graph import GraphTrain
from kd_dist.config.sections.resources import GpuResources, ShardResources
from kd_dist.config.sections.training import Cadence, Selection, Train
from kd_dist.config.stages import VocabularyStage
from kd_dist.errors import UserError, exit_with_message
from kd_dist.runs.layout import open_run, read_job
from kd_dist.runs.stage_runner import run_stage

SMALL: dict[type[Section], dict[str, Any]] = {
    CorpusData: {"max_lines": 2000},
    LabelledData: {"max_rows": 64},
    Augment: {"copies": 1},
    Train: {"steps": 2, "global_batch_size": 8, "micro_batch_size": 4},
    GraphTrain: {"epochs": 2},
    Cadence: {"log_every_n_steps": 1},
    Selection: {"patience": None},
    Evaluate: {"speed": False},
    Guards: {"teacher": "warn"},  # a teacher that was trained for two steps is bad
    GpuResources: {"nodes": 1, "min_nodes": None, "gpus_per_node": 1},
    ShardResources: {"shards": 1},
}


def reduced(job: Job) -> Job:
    """Return the same job on little data, for two steps, on one rank.

    A vocabulary is still made of all texts: that of a few would know next to nothing of others.
    """

    def small(_: str, section: Section) -> Section:
        return section.model_copy(update=SMALL.get(type(section), {}))

    return job.with_stages(lambda stage: stage if isinstance(stage, VocabularyStage) else stage.with_sections(small))


def rehearse(job: Job) -> None:
    """Run the reduced job in a temporary folder, which is kept if it fails.

    Raises:
        UserError: A stage failed, and has printed why.
    """
    started = time.monotonic()
    runs_dir = Path(tempfile.mkdtemp(prefix="kd_dist_rehearsal_"))
    run_dir = open_run(reduced(job), runs_dir, "rehearsal")
    print("rehearsal: every stage on a little of the data, on this machine", flush=True)
    ended = subprocess.run(
        [sys.executable, "-m", "launch.rehearsal", str(run_dir)],
        env={**os.environ, "PYTHONPATH": python_path(REPOSITORY), "PYTHONSAFEPATH": "1", "WANDB_MODE": "disabled"},
    )
    if ended.returncode:
        raise UserError(f"the rehearsal failed, see above: nothing was submitted. What it wrote is in {run_dir}")
    shutil.rmtree(runs_dir)
    print(f"rehearsal: all stages ran, {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    """Run the stages of a rehearsal: `python -m launch.rehearsal RUN_DIR`."""
    run_dir = Path(sys.argv[1])
    for name in read_job(run_dir).stages:
        print(f"rehearsal: {name}", flush=True)
        run_stage(run_dir / name)


if __name__ == "__main__":
    exit_with_message(main, is_rank=True)
