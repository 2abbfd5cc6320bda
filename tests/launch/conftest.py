"""A job that needs no download, runs of it, and a scheduler that only pretends."""

import json
import os
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.sections.data import AugmentedData, PlainTokenData
from kd_dist.config.sections.models import Encoder
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stages import AugmentedStage, AugmentStage
from kd_dist.runs.layout import open_run
from launch.snapshot import snapshot
from tests.launch.launching import general_job, program
from tests.model_folders import write_vocabulary, write_weights

BERT = {"model_type": "bert", "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}
SBATCH = [
    'echo "$(($(cat $0.count 2>/dev/null || echo 100) + 1))" > $0.count',
    '[ "$(cat $0.count)" = "$(cat $0.refuse 2>/dev/null)" ] && echo "sbatch: error: invalid partition" >&2 && exit 1',
    'echo "Submitted batch job $(cat $0.count)"',
]


@pytest.fixture
def settings(tmp_path: Path, corpus: Path) -> list[str]:
    """Settings of tinybert_general that need no download."""
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "config.json").write_text(json.dumps(BERT), encoding="utf-8")
    write_weights(tmp_path / "teacher", BERT)
    write_vocabulary(tmp_path / "teacher")
    return [f"data.corpus={corpus}", f"teacher.path={tmp_path / 'teacher'}"]


@pytest.fixture
def run_dir(tmp_path: Path, settings: list[str]) -> Path:
    """A run of tinybert_general with 300 steps in which nothing has begun."""
    return open_run(general_job(settings, "train.steps=300"), tmp_path / "runs", "a")


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that answer like SLURM's: jobs get the numbers 101, 102, ... and are never known later.

    They are on PATH; scancel notes what it was asked to cancel in scancel.asked.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "sbatch", *SBATCH)
    program(folder, "scancel", 'echo "$@" >> $0.asked')
    for name in ("squeue", "sacct", "srun", "scontrol"):
        program(folder, name)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def sharded(tmp_path: Path) -> Job:
    """A job whose first stage runs in three shards."""
    augment = AugmentStage(
        encoder=Encoder(path=str(tmp_path)),
        data=PlainTokenData(tokens=str(tmp_path)),
        resources=ShardResources(shards=3, gpus=0),
    )
    collect = AugmentedStage(data=AugmentedData(tokens=str(tmp_path), shards="@augment/shards"))
    return Job(
        name="sharded", description="x", stages={"augment": augment, "collect": collect}, result="collect", notes=["!"]
    )


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of the code as it is."""
    return snapshot(tmp_path_factory.mktemp("run"))
