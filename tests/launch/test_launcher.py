"""The notes of a launcher: who it is, whether it still runs, and how a stage ended."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kd_dist.config.paths import REPOSITORY
from kd_dist.files import read_json, write_json
from launch.launcher import end_of, forget_end, launcher_of, note_end, note_stage, noted


@pytest.fixture
def stage_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "distill"
    folder.mkdir()
    return folder


def test_a_launcher_is_known_by_its_note_until_it_ends(stage_dir: Path) -> None:
    assert launcher_of(stage_dir.parent) is None
    with noted(stage_dir.parent):
        note_stage(stage_dir)
        launcher = launcher_of(stage_dir.parent)
        assert launcher is not None
        assert (launcher.pid, launcher.host, launcher.stage) == (os.getpid(), socket.gethostname(), "distill")
        assert launcher.is_alive()
    assert launcher_of(stage_dir.parent) is None


def test_the_note_of_a_killed_launcher_is_not_believed(stage_dir: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from launch.launcher import note_stage\n"
        "note_stage(Path(sys.argv[1])); print('noted', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", script, str(stage_dir)]
    with subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        launcher = launcher_of(stage_dir.parent)
        assert launcher is not None
        assert launcher.is_alive()
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not launcher.is_alive()  # a zombie
        process.wait()
        assert not launcher.is_alive()


def test_another_process_with_the_same_id_is_not_the_launcher(stage_dir: Path) -> None:
    note_stage(stage_dir)
    path = stage_dir.parent / "launcher.json"
    write_json(path, read_json(path) | {"started": "1"})
    launcher = launcher_of(stage_dir.parent)
    assert launcher is not None
    assert not launcher.is_alive()


def test_on_another_machine_only_the_note_counts(stage_dir: Path) -> None:
    note_stage(stage_dir)
    path = stage_dir.parent / "launcher.json"
    write_json(path, read_json(path) | {"host": "elsewhere", "pid": 1, "started": "1"})
    launcher = launcher_of(stage_dir.parent)
    assert launcher is not None
    assert launcher.is_alive()
    assert not launcher.is_here()


def test_how_a_stage_ended_is_kept_until_it_starts_again(stage_dir: Path) -> None:
    assert end_of(stage_dir) is None
    note_end(stage_dir, 143, "SIGTERM")
    assert end_of(stage_dir) == {"status": 143, "signal": "SIGTERM"}
    note_stage(stage_dir)
    assert end_of(stage_dir) is None
    forget_end(stage_dir)  # there is nothing to forget
