"""Steps, loss, speed and time left."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, job_names
from kd_dist.config.stages import TrainStage
from kd_dist.files import read_json, write_json
from kd_dist.runs.layout import open_run
from kd_dist.training.batches import BatchPlan
from launch.progress import progress
from launch.states import StageState
from tests.launch.launching import CORPUS, DISTILL, finish_shard, metrics

RUNNING, COMPLETED, FAILED = (StageState(DISTILL, [word]) for word in ("RUNNING", "COMPLETED", "FAILED"))


def test_a_running_stage_shows_all(run_dir: Path) -> None:
    metrics(run_dir / DISTILL, step=30, speed=25.6)
    assert progress(run_dir / DISTILL, RUNNING) == ["30/300", "1.2346", "25.6", "0:45:00"]


def test_long_times_have_days(run_dir: Path) -> None:
    metrics(run_dir / DISTILL, step=30, speed=0.2)
    assert progress(run_dir / DISTILL, RUNNING)[-1] == "4 days, 0:00:00"


@pytest.mark.parametrize("state", [COMPLETED, FAILED])
def test_nothing_is_left_of_a_stage_that_has_ended(run_dir: Path, state: StageState) -> None:
    metrics(run_dir / DISTILL, step=30, speed=25.6)
    assert progress(run_dir / DISTILL, state)[-1] == ""


def test_before_the_first_step_nothing_is_known(run_dir: Path) -> None:
    assert progress(run_dir / DISTILL, RUNNING) == []
    assert progress(run_dir / CORPUS, RUNNING) == []


ROWS = (1, 31, 256, 31_873, 1_000_003)


@pytest.mark.parametrize("job", job_names())
def test_the_steps_of_epochs_are_those_of_the_training(tmp_path: Path, job: str) -> None:
    """Whether it has begun, was resumed or is complete, and whether its rows are still there."""
    trained = {name: stage for name, stage in find_job(job).stages.items() if isinstance(stage, TrainStage)}
    for (name, stage), rows in itertools.product(trained.items(), ROWS):
        plan, total = batch_plan(stage, rows), stage.train.total_steps(rows)
        (tmp_path / name).mkdir(exist_ok=True)
        write_json(tmp_path / name / "config.json", stage.model_dump())
        for step, state in ((1, RUNNING), (total // 2 + 1, RUNNING), (total, RUNNING), (total, COMPLETED)):
            metrics(tmp_path / name, step=step, speed=256.0, epoch=plan.epoch(step))
            assert progress(tmp_path / name, state)[0] == f"{step:,}/{total:,}"


def batch_plan(stage: TrainStage, rows: int) -> BatchPlan:
    return BatchPlan(
        np.broadcast_to(np.int64(8), rows),
        global_batch_size=stage.train.global_batch_size,
        micro_batch_size=1,
        bucket_steps=1,
        seed=0,
    )


def test_shards_are_counted(tmp_path: Path, sharded: Job) -> None:
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    finish_shard(run_dir / "augment", 1, shards=3)
    assert progress(run_dir / "augment", RUNNING) == ["1/3 shards"]


def test_a_loss_that_is_not_finite_is_said_so(run_dir: Path) -> None:
    metrics(run_dir / DISTILL, step=30, speed=25.6)
    path = run_dir / DISTILL / "metrics.jsonl"
    path.write_text(path.read_text().replace("1.23456", "null"))
    assert progress(run_dir / DISTILL, RUNNING)[1] == "not finite"
    assert read_json(run_dir / DISTILL / "config.json")["train"]["steps"] == 300
