"""Inputs of the jobs of these tests, and a run of one cheap stage."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from kd_dist.config.job import Job
from kd_dist.config.paths import model_config_file
from kd_dist.config.stages import SampleTextStage
from kd_dist.runs.layout import open_run


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "nested").mkdir(parents=True)
    for path in (folder / "a.txt", folder / "nested" / "b.txt"):
        path.write_text("今天天气很好。\n", encoding="utf-8")
    return folder


@pytest.fixture
def student(tmp_path: Path) -> Path:
    path = tmp_path / "student.json"
    path.write_bytes(model_config_file("tinybert_4l_312").read_bytes())
    return path


@pytest.fixture
def settings(corpus: Path, student: Path) -> list[str]:
    return [f"data.corpus={corpus}", f"student.config={student}"]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A run of the one cheap stage."""
    stages = {"texts": SampleTextStage()}
    only = Job(name="texts", description="texts only", stages=stages, result="texts")
    return open_run(only, tmp_path / "runs", "a") / "texts"


@pytest.fixture
def _fresh_wandb() -> Iterator[None]:
    """W&B reads the environment once per process."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
