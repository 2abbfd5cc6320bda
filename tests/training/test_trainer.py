"""The trainer with real ranks and real signals: nothing about how a run is cut up may change what it learns."""

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from kd_dist.runs.layout import open_run
from tests.conftest import TinyWorld
from tests.loading import load_job
from tests.ranks import assert_same, run_ranks

STEPS = 10
HERE = "tests.training.test_trainer"

# ------------------------------------------------------------------------------------------ what runs on the ranks


def train(plans: list[list[Any]]) -> list[str]:
    """Run (stage_dir, stop_at, poison) one after another in this process; says how each ended.

    `stop_at`: the last rank gets a real SIGUSR2 in that step. `poison`: steps whose loss is not a number, on rank 0.
    """
    from kd_dist.errors import Preempted, RunError
    from tests.stages import run_entry

    ends = []
    for stage_dir, stop_at, poison in plans:
        with pytest.MonkeyPatch.context() as patch:
            _signal_at(patch, stop_at)
            _poison(patch, poison)
            try:
                run_entry(Path(stage_dir))
                ends.append("done")
            except Preempted as stopped:
                ends.append(f"stopped after {stopped.step}")
            except RunError as error:
                ends.append(str(error))
    return ends


def _signal_at(patch: pytest.MonkeyPatch, stop_at: int | None) -> None:
    from kd_dist.training.trainer import Trainer

    step = Trainer._train_step

    def step_and_signal(self: Trainer, rows: Any) -> Any:
        if self.step == stop_at and os.environ["RANK"] == str(int(os.environ["WORLD_SIZE"]) - 1):
            os.kill(os.getpid(), signal.SIGUSR2)
        return step(self, rows)

    patch.setattr(Trainer, "_train_step", step_and_signal)


def _poison(patch: pytest.MonkeyPatch, steps: list[int]) -> None:
    from kd_dist.training.trainer import Trainer

    step = Trainer._train_step

    def poisoned_step(self: Trainer, rows: Any) -> Generator[Any, None, Any]:
        forward = self._forward

        def poisoned(batch: Any, teacher_time: Any) -> Any:
            outcome = forward(batch, teacher_time)
            outcome.sums["hidden"] = outcome.sums["hidden"] * float("nan")
            return outcome

        with pytest.MonkeyPatch.context() as within:
            if self.step in steps and os.environ["RANK"] == "0":
                within.setattr(self, "_forward", poisoned)
            return (yield from step(self, rows))

    patch.setattr(Trainer, "_train_step", poisoned_step)


# ----------------------------------------------------------------------------------------------- the runs, made once


class Runs:
    """Run folders of the same job that differ in how they are run."""

    def __init__(self, root: Path, tiny: TinyWorld) -> None:
        self.root, self.tiny = root, tiny

    def open(self, run_id: str, *overrides: str) -> str:
        settings = [
            f"data.corpus={self.tiny.corpus}",
            f"teacher.path={self.tiny.teacher}",
            f"student.config={self.tiny.student}",
            f"distill.data.tokens={self.tiny.tokens}",
            f"train.steps={STEPS}",
            "engine.precision=fp32",  # in bf16 weights that differ by rounding are far apart a few steps later
            "train.global_batch_size=16",
            "train.micro_batch_size=4",
            "optim.learning_rate=3e-3",
            "cadence.save_every_n_steps=100",
            "cadence.evaluate_every_n_steps=5",
            *overrides,
        ]
        return str(open_run(load_job("tinybert_general", settings), self.root, run_id) / "distill")

    def weights(self, run_id: str) -> dict[str, Any]:
        stage = self.root / "tinybert_general" / run_id / "distill"
        return load_file(stage / "checkpoints" / f"step_{STEPS:08d}" / "weights.safetensors") | {
            f"optimizer/{name}": tensor
            for name, tensor in load_file(stage / "checkpoints" / f"step_{STEPS:08d}" / "optimizer.safetensors").items()
        }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny: TinyWorld) -> tuple[Runs, dict[str, str]]:
    """All runs of this file: five starts of processes serve every test."""
    runs, ends = Runs(tmp_path_factory.mktemp("runs"), tiny), {}

    def start(world_size: int, *plans: tuple[str, int | None, list[int], list[str]]) -> None:
        opened = [[runs.open(run_id, *overrides), stop_at, poison] for run_id, stop_at, poison, overrides in plans]
        for plan, end in zip(plans, run_ranks(world_size, f"{HERE}:train", opened), strict=True):
            ends[f"{plan[0]}@{world_size}"] = end

    zero0, zero2, bf16 = ["engine.zero_stage=0"], ["engine.zero_stage=2"], ["engine.precision=bf16"]
    two = ["resources.gpus_per_node=2"]
    start(
        1,
        ("one", None, [], []),
        ("one_zero0", None, [], zero0),
        ("one_zero2", None, [], zero2),
        ("one_bf16", None, [], bf16),
        ("one_checkpointing", None, [], ["engine.activation_checkpointing=true"]),
        ("one_stopped", 4, [], []),
        ("refused", None, [4], zero0),
        ("refused_zero1", None, [4], []),
        ("hopeless", None, [5, 6, 7], ["train.max_nonfinite_steps=3", "cadence.save_every_n_steps=2"]),
    )
    start(1, ("one_stopped", None, [], []))
    start(
        2,
        ("two", None, [], two),
        ("two_zero2", None, [], two + zero2),
        ("two_stopped", 4, [], two + zero2),
        ("moving_zero0", 2, [], two + zero0),
        ("moving_zero2", 2, [], two + zero2),
        ("two_refused", None, [4], two),
    )
    start(1, ("moving_zero0", 5, [], zero0), ("moving_zero2", 5, [], zero2))
    start(
        2,
        ("two_stopped", None, [], two + zero2),
        ("moving_zero0", None, [], two + zero0),
        ("moving_zero2", None, [], two + zero2),
    )
    return runs, ends


# ------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("run_id", ["two", "two_zero2", "one_zero0", "one_zero2", "one_checkpointing"])
def test_ranks_and_zero_stages_and_checkpointing_do_not_change_what_is_learned(runs: Any, run_id: str) -> None:
    assert_same(runs[0].weights("one"), runs[0].weights(run_id), tolerance=1e-5)


def test_training_moves_the_weights(runs: Any) -> None:
    first, second = runs[0].weights("one"), runs[0].weights("refused")
    assert any((first[name] != second[name]).any() for name in first)


def test_resuming_on_the_same_ranks_is_bit_identical(runs: Any) -> None:
    assert runs[1]["one_stopped@1"] == "done"  # the second start; the first ended as the next test says
    assert_same(runs[0].weights("one"), runs[0].weights("one_stopped"))
    assert_same(runs[0].weights("two_zero2"), runs[0].weights("two_stopped"))


@pytest.mark.parametrize("run_id", ["moving_zero0", "moving_zero2"])
def test_a_run_moves_from_two_ranks_to_one_and_back(runs: Any, run_id: str) -> None:
    assert runs[1][f"{run_id}@1"] == "stopped after 6"  # agreed on one step after the signal
    assert runs[1][f"{run_id}@2"] == "done"
    assert_same(runs[0].weights("two"), runs[0].weights(run_id), tolerance=1e-5)


def test_bf16_learns_nearly_the_same(runs: Any) -> None:
    full, half = runs[0].weights("one"), runs[0].weights("one_bf16")
    name = "projections.layers.weight"
    assert 0 < float((full[name] - half[name]).abs().max()) < 0.02


@pytest.mark.parametrize("run_id", ["refused", "refused_zero1", "two_refused"])
def test_a_step_that_is_not_finite_is_refused_and_the_run_goes_on(runs: Any, run_id: str) -> None:
    from kd_dist.training.checkpoint import newest_good, read_checkpoint

    directory = runs[0].root / "tinybert_general" / run_id / "distill" / "checkpoints"
    path, _ = newest_good(directory)
    assert path is not None
    checkpoint = read_checkpoint(path)
    assert checkpoint.step == STEPS
    assert checkpoint.state["applied_steps"] == STEPS - 1
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors["weights"].values())


def test_too_many_refused_steps_end_the_run_and_the_last_good_checkpoint_stays(runs: Any) -> None:
    from kd_dist.training.checkpoint import newest_good

    assert runs[1]["hopeless@1"].startswith(
        "3 steps in a row had a loss or gradient that is not finite (the last: step 7)"
    )
    path, damaged = newest_good(runs[0].root / "tinybert_general" / "hopeless" / "distill" / "checkpoints")
    assert path is not None
    assert (path.name, damaged) == ("step_00000006", [])


def test_metrics_hold_terms_speed_and_evaluation(runs: Any) -> None:
    from kd_dist.runs.metrics import read_metrics

    rows = read_metrics(runs[0].root / "tinybert_general" / "two" / "distill" / "metrics.jsonl")
    training = [row for row in rows if "train/loss" in row]
    assert [row["global_step"] for row in training] == [1, STEPS]
    last = training[-1]
    terms = [last[f"train/weighted/{name}"] for name in ("attention", "hidden", "embeddings")]
    assert last["train/loss"] == pytest.approx(sum(terms))
    assert 0 <= last["speed/padding_share"] < 0.5
    assert 0 < last["speed/teacher_share"] < 1
    assert 0 < last["speed/data_wait_share"] < 1
    assert [row["global_step"] for row in rows if "evaluation/loss" in row] == [5, STEPS]


def test_every_metric_is_in_a_panel_of_the_dashboard_and_every_panel_has_metrics(runs: Any) -> None:
    from kd_dist.config.jobs import find_job
    from kd_dist.runs.metrics import read_metrics
    from launch.panels import sections_of

    rows = read_metrics(runs[0].root / "tinybert_general" / "two" / "distill" / "metrics.jsonl")
    shown = {
        key for panels in sections_of(find_job("tinybert_general")).values() for panel in panels for key in panel.keys
    }
    assert {key for row in rows for key in row} ^ shown <= {"time", "epoch", "speed/gpu_utilization"}


def test_the_slowest_rank_is_named(runs: Any) -> None:
    from kd_dist.runs.metrics import read_metrics

    of_two, of_one = (
        read_metrics(runs[0].root / "tinybert_general" / name / "distill" / "metrics.jsonl")[0]
        for name in ("two", "one")
    )
    assert of_two["speed/slowest_rank"] in (0, 1)
    assert 1 <= of_two["speed/slowest_over_mean"] <= 2
    assert "speed/slowest_rank" not in of_one


def test_the_export_loads_without_us_and_runs(runs: Any) -> None:
    import json
    import subprocess
    import sys

    export = runs[0].root / "tinybert_general" / "one" / "distill" / "export"
    code = (
        "import sys; from transformers import AutoModel, AutoTokenizer; d = sys.argv[1];"
        "t = AutoTokenizer.from_pretrained(d); m = AutoModel.from_pretrained(d);"
        "print(m(**t(['中文'], return_tensors='pt')).last_hidden_state.shape[-1], 'kd_dist' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(export)], capture_output=True, text=True, cwd=export, check=True
    )
    assert result.stdout.split() == ["24", "False"]
    assert set(load_file(export / "projections.safetensors")) == {
        "embeddings.weight", "embeddings.bias", "layers.weight", "layers.bias"
    }  # fmt: skip
    manifest = json.loads((export / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["scores"]["evaluation/loss"] > 0
    assert not any("kd_dist" in path.read_text(encoding="utf-8") for path in export.glob("*config.json"))
