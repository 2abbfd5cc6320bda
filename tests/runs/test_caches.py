"""Caches are the user's own, or else the run's, or in a temporary folder that nobody else can write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kd_dist.runs.caches import cache_folder, keep_caches_in
from kd_dist.runs.stage_runner import run_stage


@pytest.fixture
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home in which no folder can be made, whoever the user is."""
    (tmp_path / "home").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)


def test_the_users_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    keep_caches_in(tmp_path / "run")
    assert cache_folder() == tmp_path / "cache" / "kd_dist"
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_home")
def test_without_a_home_and_a_run_it_is_temporary(tmp_path: Path) -> None:
    folder = tmp_path / "temporary" / f"kd_dist-{os.getuid()}"
    assert cache_folder() == folder
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("no_home")
def test_without_a_home_the_stages_of_a_run_share_one(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # so that what the stage sets is undone
    run_stage(texts)
    assert cache_folder() == texts.parent / ".cache" / "kd_dist"


@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize("temporary_is_full", [False, True])
def test_jieba_is_silent(temporary_is_full: bool, tmp_path: Path) -> None:
    if temporary_is_full:
        (tmp_path / "temporary" / f"kd_dist-{os.getuid()}").touch()
    code = "from kd_dist.data.jieba_words import word_cutter; print('/'.join(word_cutter().cut('北京大学')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "北京大学\n", "")
    assert temporary_is_full or any((tmp_path / "temporary").glob("kd_dist-*/jieba.cache"))
