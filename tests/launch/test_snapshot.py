"""Snapshots of the code: copied once, named by their content, enough to run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch.snapshot import snapshot


def test_unchanged_code_is_copied_once(tmp_path: Path) -> None:
    first = snapshot(tmp_path)
    assert snapshot(tmp_path) == first
    assert [path.name for path in (tmp_path / "code").iterdir()] == [first.name]


def test_changed_code_gets_a_copy_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: Path) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(code, edited)
    (edited / "kd_dist" / "losses.py").write_text("", encoding="utf-8")
    monkeypatch.setattr("launch.snapshot.REPOSITORY", edited)
    assert snapshot(tmp_path).name != code.name


def test_snapshot_knows_its_commit(code: Path) -> None:
    assert set(json.loads((code / "GIT_STATE.json").read_text(encoding="utf-8"))) == {"commit", "modified"}


def test_snapshot_suffices_to_run(code: Path, tmp_path: Path) -> None:
    modules = ("launch.task", "jobs.tinybert_general", "kd_dist.config.paths as c", "kd_dist.data.corpus")
    imports = f"import {', '.join(modules)}"
    script = (
        f"{imports}, sys; print(c.model_config_file('tinybert_4l_312'));"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ('launch', 'jobs', 'kd_dist')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(code)}
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    files = ended.stdout.split()
    assert len(files) > 8
    assert [file for file in files if not file.startswith(str(code))] == []
