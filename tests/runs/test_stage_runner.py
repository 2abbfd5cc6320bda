"""A stage, or its shards, run once and are marked complete."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd_dist.config.job import Job
from kd_dist.config.sections.data import PlainTokenData
from kd_dist.config.sections.models import Encoder
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stages import AugmentStage
from kd_dist.errors import RunError, UserError
from kd_dist.runs import completion
from kd_dist.runs.completion import complete, is_complete
from kd_dist.runs.layout import open_run
from kd_dist.runs.stage_runner import run_stage
from tests.conftest import ROOT
from tests.runs.runs import written


def test_stage_is_complete_after_it_ran(texts: Path) -> None:
    assert not is_complete(texts)
    run_stage(texts)
    assert is_complete(texts)
    assert (texts / "unlabelled.txt").stat().st_size > 500_000


def test_mistake_that_a_stage_finds_came_too_late_for_status_2(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stage: Any, stage_dir: Path, shard: int) -> None:
        raise UserError("rows.tsv, line 2: no label")

    monkeypatch.setitem(sys.modules, "kd_dist.data.sample_text", SimpleNamespace(run=refuse))
    with pytest.raises(RunError, match=r"^rows.tsv, line 2: no label$") as caught:
        run_stage(texts)
    assert (caught.value.exit_status, is_complete(texts)) == (1, False)


LEAVE_REMAINS = """
import os, signal, sys; from pathlib import Path; from kd_dist.files import atomic_path, temporary_folder
place = Path(sys.argv[1]) / "checkpoints" / "step_00000005"
with temporary_folder(place) as folder, atomic_path(place.parent.parent / "report.html") as file:
    (folder / "weights.safetensors").write_text("half"); file.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_try_sweeps_what_a_killed_one_left(texts: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", LEAVE_REMAINS, str(texts)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len([path for path in texts.rglob("*") if ".tmp-" in path.name]) == 2
    run_stage(texts)
    assert is_complete(texts)
    assert not [path for path in texts.rglob("*") if ".tmp-" in path.name]


def test_a_mistake_is_noted_for_whoever_would_start_the_stage_again(
    texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(stage: Any, stage_dir: Path, shard: int) -> None:
        raise UserError("rows.tsv, line 2: no label")

    monkeypatch.setitem(sys.modules, "kd_dist.data.sample_text", SimpleNamespace(run=refuse))
    with pytest.raises(RunError):
        run_stage(texts)
    assert (texts / "tries" / "final").exists()


def test_complete_stage_is_left_alone(texts: Path) -> None:
    complete(texts, seconds=1.0)
    run_stage(texts)
    assert not (texts / "texts").exists()


def test_other_ranks_do_not_mark_the_stage(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run_stage(texts)
    assert not is_complete(texts)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shards whose work was done, in a stage that does nothing else; its third shard fails."""
    shards: list[int] = []

    def work(stage: Any, stage_dir: Path, shard: int) -> None:
        if shard == 2:
            raise RuntimeError("the third shard failed")
        shards.append(shard)

    monkeypatch.setitem(sys.modules, "kd_dist.augmentation.stage", SimpleNamespace(run=work))
    return shards


def augment(tmp_path: Path, shards: int) -> Path:
    stage = AugmentStage(
        encoder=Encoder(path="none/such"),
        data=PlainTokenData(tokens=str(tmp_path / "tokens")),
        resources=ShardResources(shards=shards),
    )
    only = Job(name="texts", description="augment only", stages={"augment": stage}, result="augment")
    return open_run(only, tmp_path / "runs", "a") / "augment"


def test_shards_run_one_after_another_without_a_launcher(tmp_path: Path, ran: list[int]) -> None:
    stage_dir = augment(tmp_path, shards=2)
    run_stage(stage_dir)
    assert (ran, is_complete(stage_dir)) == ([0, 1], True)


def test_last_of_the_shards_completes_the_stage(
    tmp_path: Path, ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_dir = augment(tmp_path, shards=2)
    run_stage(stage_dir, 1)
    assert (ran, completion.unfinished_shards(stage_dir, 2), is_complete(stage_dir)) == ([1], [0], False)
    assert written(stage_dir / "shard_00001.COMPLETE").keys() == {"fingerprint", "shards", "seconds", "finished"}
    run_stage(stage_dir, 0)
    assert (ran, is_complete(stage_dir)) == ([1, 0], True)


def test_finished_shards_are_left_alone(tmp_path: Path, ran: list[int]) -> None:
    stage_dir = augment(tmp_path, shards=3)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the third shard failed"):
            run_stage(stage_dir)
    assert (ran, completion.unfinished_shards(stage_dir, 3), is_complete(stage_dir)) == ([0, 1], [2], False)


def test_stage_whose_mark_alone_is_missing_gets_it_from_any_shard(tmp_path: Path, ran: list[int]) -> None:
    stage_dir = augment(tmp_path, shards=2)
    run_stage(stage_dir)
    (stage_dir / "COMPLETE").unlink()
    assert completion.shards_to_run(stage_dir, 2) == [0]
    run_stage(stage_dir)
    assert (ran, is_complete(stage_dir)) == ([0, 1], True)


def test_shards_of_another_number_do_not_count_even_when_it_comes_back(tmp_path: Path, ran: list[int]) -> None:
    with pytest.raises(RuntimeError, match="the third shard failed"):
        run_stage(augment(tmp_path, shards=3))
    assert completion.unfinished_shards(augment(tmp_path, shards=2), 2) == [0, 1]
    assert completion.unfinished_shards(augment(tmp_path, shards=3), 3) == [0, 1, 2]


def test_number_of_shards_may_change_after_the_end(tmp_path: Path, ran: list[int]) -> None:
    run_stage(augment(tmp_path, shards=2))
    assert is_complete(augment(tmp_path, shards=1))
