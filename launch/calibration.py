"""`--calibrate`: time the steps of a job's training stages on this machine, and keep what was found for `--plan`."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from kd_dist.config.job import Job
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.training import tokens_at_once
from kd_dist.config.stages import TeacherOutputsStage, TrainStage
from kd_dist.errors import RunError, UserError
from kd_dist.files import read_json
from kd_dist.planning.rows import RowCounts
from kd_dist.planning.step_times import keep, record
from kd_dist.planning.works import Works
from kd_dist.runs import machine
from kd_dist.runs.layout import open_run
from launch.cluster import Cluster, rank_environment
from launch.local import gpu_here
from launch.rehearsal import reduced


def calibrate(job: Job, cluster: Cluster) -> int:
    """Time the training steps of a job, in a run of its own that is removed afterwards.

    Raises:
        UserError: The job has no training stage.
        RunError: A stage failed, and has printed why.
    """
    small = reduced_to_training(job, gpu_here())
    started = time.monotonic()
    runs_dir = Path(tempfile.mkdtemp(prefix="kd_dist_calibration_"))
    run_dir = open_run(small, runs_dir, "calibration")
    print("calibration: the stages of training on a little of the data, on this machine", flush=True)
    found = run_dir / "step_times.json"
    ended = subprocess.run(
        [sys.executable, "-m", "kd_dist.training.step_times", str(run_dir), str(found), str(time.time())],
        env={
            **os.environ,
            **rank_environment(cluster),
            "PYTHONPATH": str(REPOSITORY),
            "WANDB_MODE": "disabled",
        },
    )
    if ended.returncode:
        raise RunError(f"the calibration failed, see above. What it wrote is in {run_dir}")
    path = keep(_kept(small, read_json(found)))
    shutil.rmtree(runs_dir)
    print(f"calibration: {time.monotonic() - started:.0f} s, for every later --plan on such a device: {path}")
    return 0


def reduced_to_training(job: Job, gpu: machine.Gpu | None) -> Job:
    """Return the stages that train or run the teacher, and those that they need, on little data and for two steps.

    A step is two micro-batches of the size that one rank would run here, since time depends on that.

    Args:
        job: The job.
        gpu: The GPU of this machine, if it has one.

    Raises:
        UserError: There is no training stage.
    """
    needed = {name for name, stage in job.stages.items() if isinstance(stage, TrainStage | TeacherOutputsStage)}
    if not needed:
        raise UserError(f"--calibrate: `{job.name}` has no training stage to time; name a job that trains")
    for name, inputs in reversed(job.edges().items()):  # a stage comes after all that feed it
        needed |= set(inputs) if name in needed else set()
    small, counts = reduced(job), RowCounts(job, {})

    def with_own_batches(name: str, stage: Any) -> Any:
        if not isinstance(stage, TrainStage):
            return small.stages[name]
        most = tokens_at_once(gpu.memory_gb) // counts.max_length(stage) if gpu else None
        size = stage.train.sequences_per_micro_batch(1, most)
        train = stage.train.model_copy(update={"steps": 2, "micro_batch_size": size, "global_batch_size": 2 * size})
        return small.stages[name].model_copy(update={"train": train})

    stages = {name: with_own_batches(name, stage) for name, stage in job.stages.items() if name in needed}
    return small.model_copy(update={"stages": stages, "together": {}})  # each student by itself


def _kept(job: Job, found: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a measurement: its seconds, by what was computed rather than by the stage."""
    works = Works(job, RowCounts(job, {}))
    records = []
    for name, seconds in found["stages"].items():
        stage = job.stages[name]
        assert isinstance(stage, TrainStage | TeacherOutputsStage)
        records.append(record(works.of(stage), seconds))
    measured = datetime.now().isoformat(timespec="minutes")
    return {
        **{name: value for name, value in found.items() if name != "stages"},
        "measured": measured,
        "records": records,
    }
