"""A checkpoint is there as a whole or not at all, and the newest good one wins."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kd_dist.errors import RunError
from kd_dist.training.checkpoint import Checkpoint, newest_good, read_checkpoint, save_checkpoint
from tests.ranks import ROOT


def checkpoint(step: int) -> Checkpoint:
    weights = {"layer.weight": torch.full((4, 3), float(step)), "layer.bias": torch.zeros(3)}
    return Checkpoint(step, {"weights": weights, "optimizer": {}}, {"applied_steps": step})


def test_what_is_read_is_what_was_saved(tmp_path: Path) -> None:
    place = save_checkpoint(tmp_path, checkpoint(7), keep=2)
    found = read_checkpoint(place)
    assert (found.step, found.state) == (7, {"applied_steps": 7})
    assert torch.equal(found.tensors["weights"]["layer.weight"], torch.full((4, 3), 7.0))
    assert found.tensors["optimizer"] == {}


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        save_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000015", "step_00000020"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("weights.safetensors", _cut, "bytes instead of"),
        ("weights.safetensors", _flip, "a different SHA-256"),
        ("optimizer.safetensors", Path.unlink, "optimizer.safetensors is missing"),
        ("COMPLETE", Path.unlink, "COMPLETE is missing"),
        ("COMPLETE", _cut, "COMPLETE is not readable"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_the_reason(
    tmp_path: Path, file: str, damage: object, reason: str
) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=2)
    newest = save_checkpoint(tmp_path, checkpoint(2), keep=2)
    damage(newest / file)
    path, lines = newest_good(tmp_path)
    assert path is not None
    assert path.name == "step_00000001"
    assert len(lines) == 1
    assert "step_00000002" in lines[0]
    assert reason in lines[0]


def test_a_damaged_checkpoint_does_not_crowd_out_the_good_one_that_is_saved_next(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(5), keep=2)
    _cut(save_checkpoint(tmp_path, checkpoint(10), keep=2) / "weights.safetensors")
    save_checkpoint(tmp_path, checkpoint(6), keep=1)
    assert newest_good(tmp_path) == (tmp_path / "step_00000006", [])
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000006"]


def test_without_any_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert newest_good(tmp_path / "nothing") == (None, [])


SAVE = """
import os, resource, signal, sys
from pathlib import Path
from tests.training.test_checkpoint import checkpoint
from kd_dist.training.checkpoint import save_checkpoint
from kd_dist.errors import RunError
directory = Path(sys.argv[1])
{before}
try:
    save_checkpoint(directory, checkpoint(2), keep=2)
except RunError as error:
    print(error)
"""


def save_in_a_process(directory: Path, before: str) -> subprocess.CompletedProcess[str]:
    code = SAVE.format(before=before)
    return subprocess.run([sys.executable, "-c", code, str(directory)], cwd=ROOT, capture_output=True, text=True)


def test_a_full_disk_is_one_clear_message_and_costs_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=2)
    # Files of this process may not grow beyond 100 bytes: writing fails as on a full disk, halfway through a file.
    result = save_in_a_process(tmp_path, "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))")
    assert "cannot save step 2" in result.stdout
    assert "step_00000001" in result.stdout
    assert result.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert newest_good(tmp_path)[0] == tmp_path / "step_00000001"


@pytest.mark.parametrize("moment", ["os.rename", "os.fsync"])
def test_a_kill_during_a_save_costs_nothing(tmp_path: Path, moment: str) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=2)
    result = save_in_a_process(tmp_path, f"{moment} = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)")
    assert result.returncode == -9
    path, damaged = newest_good(tmp_path)
    assert (path, damaged) == (tmp_path / "step_00000001", [])
    save_checkpoint(tmp_path, checkpoint(2), keep=2)  # what the kill left behind is no hindrance
    assert newest_good(tmp_path)[0] == tmp_path / "step_00000002"
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_cannot_be_written_is_a_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="cannot save step 3"):
        save_checkpoint(tmp_path / "file", checkpoint(3), keep=1)
