"""A run that goes on with another number of ranks, under another ZeRO stage, learns the same from the same rows."""

import re
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from kd_dist.runs.metrics import read_metrics
from tests.chaos.commands import Forked, wait
from tests.chaos.forker import Forker
from tests.chaos.jobs import World, settings_of
from tests.chaos.places import step_of
from tests.chaos.slurm_runs import SlurmRun
from tests.slurm.cluster import PrivateCluster

pytestmark = pytest.mark.chaos
TOLERANCE = 1e-5
OF_LONG_RUNS = 2e-3  # hundreds of steps amplify what the first of them round


class Moving:
    """A run of `tinybert_general` that moves between worlds of other sizes."""

    def __init__(self, forker: Forker, world: World, folder: Path) -> None:
        self.forker, self.folder = forker, folder
        self.settings = [*settings_of("tinybert_general", world), "cadence.save_every_n_steps=2"]
        self.stage_dir = folder / "runs" / "tinybert_general" / "a" / "distill"
        folder.mkdir()

    def run(self, ranks: int, zero_stage: int, kill_at: int | None) -> None:
        arguments = ["--job", "tinybert_general", "--run-id", "a", *self.settings, f"engine.zero_stage={zero_stage}"]
        log = self.folder / f"{ranks}.txt"
        command = Forked(self.forker, arguments, self.folder, log, ranks, die_before=0)
        while kill_at is not None and step_of(self.stage_dir)[0] < kill_at:
            assert command.poll() is None, command.output()
            time.sleep(0.002)
        if kill_at is not None:
            command.kill_all()
        assert (wait(command) == 0) is (kill_at is None), command.output()


@pytest.mark.parametrize("worlds", [[(4, 2), (1, 0), (2, 1)], [(1, 1), (4, 0), (2, 2)], [(2, 0), (4, 1), (1, 2)]])
def test_a_run_goes_on_with_other_ranks(
    forker: Forker, world: World, tmp_path: Path, worlds: list[tuple[int, int]]
) -> None:
    alone, moving = Moving(forker, world, tmp_path / "alone"), Moving(forker, world, tmp_path / "moving")
    alone.run(ranks=1, zero_stage=1, kill_at=None)
    for (ranks, zero_stage), kill_at in zip(worlds, (5, 9, None), strict=True):
        moving.run(ranks, zero_stage, kill_at)
    assert_same_course(alone.stage_dir, moving.stage_dir)


def test_a_job_takes_as_many_nodes_as_are_free_at_each_start(
    slurm: PrivateCluster, world: World, tmp_path: Path
) -> None:
    settings = [*settings_of("tinybert_general", world), "train.steps=300", "cadence.save_every_n_steps=20"]
    alone = SlurmRun(slurm, tmp_path / "alone", "tinybert_general", settings)
    alone.finish(alone.submit_without_limit())
    run = SlurmRun(
        slurm, tmp_path / "moving", "tinybert_general", [*settings, "resources.nodes=2", "resources.min_nodes=1"]
    )
    jobs = run.submit_without_limit()
    for start, state in ((1, "DRAIN"), (2, "RESUME")):
        run.at_start("distill", start)
        run.at_step("distill", 30 * start)
        reason = ["Reason=test"] if state == "DRAIN" else []
        slurm.run(["scontrol", "update", "NodeName=node2", f"State={state}", *reason])
        slurm.run(["scontrol", "requeue", jobs["distill"]])
    run.finish(jobs)
    assert re.findall(r"rank 0 of (\d), start (\d)", run.log("distill")) == [("2", "1"), ("1", "2"), ("2", "3")]
    assert_same_metrics(alone.run_dir / "distill", run.run_dir / "distill", OF_LONG_RUNS)


def assert_same_course(expected_dir: Path, found_dir: Path) -> None:
    """Compare the metrics of every step, and the weights at the end."""
    assert_same_metrics(expected_dir, found_dir, TOLERANCE)
    one, other = (load_file(stage_dir / "export" / "model.safetensors") for stage_dir in (expected_dir, found_dir))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) <= TOLERANCE


def assert_same_metrics(expected_dir: Path, found_dir: Path, tolerance: float) -> None:
    of_both = (read_metrics(stage_dir / "metrics.jsonl") for stage_dir in (expected_dir, found_dir))
    for expected, found in zip(*of_both, strict=True):
        assert found["global_step"] == expected["global_step"]
        for name in (name for name in expected if name.startswith(("train/", "evaluation/", "epoch"))):
            assert found[name] == pytest.approx(expected[name], abs=tolerance, rel=tolerance), expected["global_step"]
