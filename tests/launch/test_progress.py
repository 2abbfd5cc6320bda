"""Steps, loss, speed and time left, and how exactly the steps are known."""

from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.files import read_json, write_json
from kd_dist.runs.layout import open_run
from launch.progress import progress
from launch.states import StageState
from tests.launch.launching import CORPUS, DISTILL, finish_shard, general_job, metrics

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


@pytest.mark.parametrize(("rows", "epochs", "steps"), [(31_873, 3, 374), (1, 3, 1), (256, 2.5, 3)])
def test_the_steps_of_epochs_follow_from_the_rows(
    tmp_path: Path, settings: list[str], rows: int, epochs: float, steps: int
) -> None:
    run_dir = open_run(general_job(settings, f"train.epochs={epochs}"), tmp_path / "runs", "b")
    (run_dir / CORPUS / "tokens").mkdir()
    write_json(run_dir / CORPUS / "tokens" / "statistics.json", {"train_rows": rows})
    metrics(run_dir / DISTILL, step=steps, speed=256.0, epoch=epochs)
    assert progress(run_dir / DISTILL, COMPLETED)[0] == f"{steps}/{steps}"


def test_without_the_rows_the_steps_are_an_estimate(tmp_path: Path, settings: list[str]) -> None:
    run_dir = open_run(general_job(settings), tmp_path / "runs", "b")
    metrics(run_dir / DISTILL, step=50, speed=256.0)
    assert progress(run_dir / DISTILL, RUNNING)[0] == "50/~300"


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
