"""What a run says about the machine holds versions and the state of the code, and no secret."""

import subprocess
from pathlib import Path

import pytest

from kd_dist.runs import environment
from kd_dist.runs.layout import open_run
from tests.runs.runs import job, written

SECRET = "kd-dist-secret-0123456789"


def test_environment_is_an_allow_list(tmp_path: Path, settings: list[str]) -> None:
    found = written(open_run(job(settings), tmp_path / "runs", "a") / "environment.json")
    assert set(found) == {"python", "platform", "packages", "git"}
    assert set(found["packages"]) == set(environment.PACKAGES)
    assert found["packages"]["torch"]


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "HF_TOKEN", "MY_SECRET"])
def test_no_secret_is_written(tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    open_run(job(settings), tmp_path / "runs", "a")
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(files) == 8  # job, environment; three stages of two files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_the_state_of_the_code_is_that_of_git_or_of_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a"]
    monkeypatch.setattr(environment, "REPOSITORY", tmp_path)
    (tmp_path / "file").write_text("old", encoding="utf-8")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    clean = {"commit": commit.stdout.strip(), "modified": False}
    assert environment.git_state() == clean
    (tmp_path / "file").write_text("new", encoding="utf-8")
    assert environment.git_state() == clean | {"modified": True}
    (tmp_path / "GIT_STATE.json").write_text('{"commit": "of the snapshot"}', encoding="utf-8")
    assert environment.git_state() == {"commit": "of the snapshot"}


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "REPOSITORY", tmp_path)
    assert environment.git_state() == {"commit": None, "modified": False}
