"""Texts to read, and the command line in this process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kd_dist.errors import exit_with_message
from launch import slurm


@pytest.fixture
def refused_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """`refused` without the start of a process."""

    def refused(*arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["launch/slurm.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            exit_with_message(slurm.main)
        assert ended.value.code == 2
        assert not (tmp_path / "runs").exists(), "work was done before the mistake was found"
        return capsys.readouterr().err

    return refused


@pytest.fixture
def texts(corpus: Path) -> str:
    return f"data.unlabelled={corpus}"
