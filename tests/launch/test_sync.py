"""`--sync RUN`: what it does without a server; tests/runs/test_wandb_run.py has one."""

from pathlib import Path

import pytest

from kd_dist.errors import UserError
from launch.sync import sync
from tests.launch.launching import DISTILL, answers, submitted


def test_a_run_without_wandb_has_nothing_to_upload(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync(run_dir) == 0
    assert "nothing to upload: run a has kept nothing for W&B" in capsys.readouterr().out


def test_a_run_that_goes_on_is_not_uploaded_yet(run_dir: Path, scheduler: Path) -> None:
    submitted(run_dir, **{DISTILL: "102"})
    answers(scheduler, squeue={"102": "RUNNING"})
    with pytest.raises(UserError, match="is still queued or running"):
        sync(run_dir)
