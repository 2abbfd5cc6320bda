"""Students that learn from one pass of the teacher: each is, bit for bit, the student that it would be alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from kd_dist.files import read_json, write_json
from kd_dist.runs.layout import open_run
from kd_dist.runs.metrics import read_metrics
from tests.conftest import TinyWorld
from tests.loading import load_job
from tests.ranks import assert_same, run_ranks

STEPS, PASSES = 6, 2  # optimizer steps, and micro-batches of each of the two ranks in a step

SIZES = ("wide", "narrow")


def train(plans: list[list[Any]]) -> list[int]:
    """Run (stage_dir, stop_at, lost) one after another on these ranks; return how often each run calls the teacher.

    `lost`: checkpoints that are removed before.
    """
    from kd_dist.models.teacher import Teacher
    from kd_dist.training import distributed
    from tests.training.test_trainer import train as train_and_stop

    calls, call = [0], Teacher.__call__

    def counted(self: Teacher, batch: Any) -> Any:
        calls[-1] += 1
        return call(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Teacher, "__call__", counted)
        for stage_dir, stop_at, lost in plans:
            for path in lost if distributed.rank() == 0 else ():
                shutil.rmtree(path)
            (end,) = train_and_stop([[stage_dir, stop_at, []]])
            assert end == ("done" if stop_at is None else f"stopped after {stop_at + 1}")
            calls.append(0)
    return calls[:-1]


class Runs:
    """Runs of `tinybert_general` on two ranks: of each student alone, and of both together."""

    def __init__(self, root: Path, tiny: TinyWorld) -> None:
        self.root, self._tiny = root, tiny
        shape = read_json(tiny.student)
        write_json(root / "wide.json", shape)
        write_json(root / "narrow.json", shape | {"num_hidden_layers": 1, "hidden_size": 16})

    def open(self, run_id: str, *settings: str) -> str:
        given = [
            f"data.corpus={self._tiny.corpus}",
            f"teacher.path={self._tiny.teacher}",
            f"train.steps={STEPS}",
            "engine.precision=bf16",
            "train.global_batch_size=16",
            "train.micro_batch_size=4",
            "optim.learning_rate=3e-3",
            "cadence.log_every_n_steps=1",
            "cadence.save_every_n_steps=2",
            "cadence.keep_checkpoints=9",
            f"cadence.evaluate_every_n_steps={STEPS}",
            "resources.gpus_per_node=2",
            *settings,
        ]
        job = load_job("tinybert_general", given)
        names = [name for name in job.stages if name.startswith("distill")]
        tokens = {"tokens": str(self._tiny.tokens)}
        changed = {
            name: job.stages[name].model_copy(update={"data": job.stages[name].data.model_copy(update=tokens)})
            for name in names
        }
        run_dir = open_run(job.model_copy(update={"stages": job.stages | changed}), self.root, run_id)
        return str(run_dir / names[0])

    def alone(self, size: str) -> Path:
        return self.root / "tinybert_general" / size / "distill"

    def together(self, run_id: str, size: str) -> Path:
        return self.root / "tinybert_general" / run_id / f"distill_{size}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny: TinyWorld) -> tuple[Runs, list[int]]:
    """All runs of this file, in one start of two ranks. One is stopped, and goes on from different steps."""
    runs = Runs(tmp_path_factory.mktemp("runs"), tiny)
    students = f"students={','.join(str(runs.root / f'{size}.json') for size in SIZES)}"
    alone = [[runs.open(size, f"student.config={runs.root / f'{size}.json'}"), None, []] for size in SIZES]
    both, stopped = runs.open("both", students), runs.open("stopped", students)
    behind = runs.together("stopped", "narrow") / "checkpoints"
    lost = [str(behind / f"step_0000000{step}") for step in (4, 5)]
    plans = [*alone, [both, None, []], [stopped, 4, []], [stopped, None, lost]]
    return runs, run_ranks(2, "tests.training.test_together:train", plans)


def state(stage: Path) -> dict[str, Any]:
    """Return weights and moments of the last checkpoint, by name."""
    files = sorted((stage / "checkpoints" / f"step_{STEPS:08d}").glob("*.safetensors"))
    return {f"{file.stem}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("run_id", ["both", "stopped"])
def test_each_student_is_the_one_that_it_would_be_alone(runs: Any, run_id: str, size: str) -> None:
    found, alone = runs[0].together(run_id, size), runs[0].alone(size)
    assert_same(state(found), state(alone))
    assert_same(load_file(found / "export" / "model.safetensors"), load_file(alone / "export" / "model.safetensors"))
    assert [losses(row) for row in read_metrics(found / "metrics.jsonl")] == [
        losses(row) for row in read_metrics(alone / "metrics.jsonl")
    ]


def losses(row: dict[str, Any]) -> dict[str, Any]:
    """Return what training computes, and not how fast."""
    named = ("global_step", "epoch", "train/", "optim/", "evaluation/")
    return {key: value for key, value in row.items() if key.startswith(named)}


def test_the_teacher_runs_once_for_each_micro_batch(runs: Any) -> None:
    wide, narrow, both, *_ = runs[1]
    assert both == wide + narrow - STEPS * PASSES
