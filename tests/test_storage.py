"""A disk that is full, at any write of a run, costs one clear message; with room again the same command ends the same.

KD_DIST_EXAMPLES=100 tries more amounts of room than the few that every run of the tests does.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TinyWorld
from tests.ranks import ROOT

EXAMPLES = int(os.environ.get("KD_DIST_EXAMPLES", "4"))

SMALLEST, LARGEST, WHOLE = 20, 1500, 3000  # KiB: the first writes, hardly enough, and more than enough

# One process loads torch once, and forks a run for each amount of room: it prints its status and what it said. Where
# the room is negative, the run before has trained, and only its export and its report are to be written.
PROGRAM = """
import os, shutil, sys
from pathlib import Path
sys.path[0] = {root!r}
import datasets, deepspeed.runtime.zero.muon.original_muon, matplotlib.backends.backend_svg, wandb.sdk.lib.wbauth
import kd_dist.data.corpus, kd_dist.reporting.run_page, kd_dist.training.stage
from kd_dist import train
from kd_dist.errors import exit_with_message

def run(place, log):
    child = os.fork()
    if child == 0:
        os.chdir(place)
        for number in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        sys.argv = ["train.py", *sys.argv[2:]]
        exit_with_message(train.main, is_rank=True)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

place, logs = Path(sys.argv[1]), Path({logs!r})
for room in {rooms}:
    if room > 0:
        shutil.rmtree(place / "runs", ignore_errors=True)
    else:
        for path in ("distill/export", "distill/COMPLETE", "distill/results.json", "report/COMPLETE"):
            path = place / "runs/tinybert_general/a" / path
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    total = os.statvfs(place)
    free = total.f_bavail * total.f_frsize
    (place / "filling").write_bytes(b"0" * (free - abs(room) * 1024))
    first = run(place, logs / f"{{room}}.full.txt")
    (place / "filling").unlink()
    second = run(place, logs / f"{{room}}.again.txt")
    weights = place / "runs/tinybert_general/a/export/model.safetensors"
    if weights.exists():
        shutil.copyfile(weights, logs / f"{{room}}.weights")
    print(room, first, second, flush=True)
"""


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of a few MB."""
    place = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here (it takes root)")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="module")
def runs(small_disk: Path, tiny: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[int]]]:
    """What runs said that had some KiB of room, and for each of them the room and the exit statuses of both tries."""
    logs = tmp_path_factory.mktemp("logs")
    corpus = logs / "corpus.txt"
    corpus.write_text("\n".join(tiny.corpus.read_text(encoding="utf-8").splitlines()[:60]), encoding="utf-8")
    rooms = [
        *map(int, np.linspace(SMALLEST, LARGEST, EXAMPLES)),
        WHOLE,
        *map(int, np.linspace(-4, -400, EXAMPLES // 2)),
    ]
    settings = [
        *("--job", "tinybert_general", "--run-id", "a", f"data.corpus={corpus}", f"teacher.path={tiny.teacher}"),
        *(f"student.config={tiny.student}", "data.max_length=48", "data.num_workers=1", "train.steps=6"),
        *("train.global_batch_size=4", "cadence.save_every_n_steps=2", "cadence.log_every_n_steps=1"),
    ]
    program = PROGRAM.format(root=str(ROOT), logs=str(logs), rooms=rooms)
    ended = subprocess.run(
        [sys.executable, "-c", program, str(small_disk), *settings],
        env={**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return logs, [
        list(map(int, line.split()))
        for line in ended.stdout.splitlines()
        if line.replace("-", "").replace(" ", "").isdigit()
    ]


def test_a_full_disk_is_one_message_whatever_could_not_be_written(runs: tuple[Path, list[list[int]]]) -> None:
    logs, ended = runs
    assert len(ended) == EXAMPLES + 1 + EXAMPLES // 2
    assert {room: status for room, status, _ in ended if room in (SMALLEST, -4, WHOLE)} == {
        SMALLEST: 1,
        WHOLE: 0,
        -4: 1,
    }
    assert {status for _, status, _ in ended} == {0, 1}
    for room, status, _ in ended:
        text = (logs / f"{room}.full.txt").read_text(encoding="utf-8")
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in text, text
        assert (len(errors), all("No space left on device" in line for line in errors)) == (status != 0, True), text


def test_with_room_again_the_same_command_ends_with_the_same_weights(runs: tuple[Path, list[list[int]]]) -> None:
    logs, ended = runs
    assert [second for _, _, second in ended] == [0] * len(ended)
    expected = (logs / f"{WHOLE}.weights").read_bytes()
    assert [room for room, _, _ in ended if (logs / f"{room}.weights").read_bytes() != expected] == []


def test_a_folder_that_cannot_be_written_is_refused_before_anything_starts(small_disk: Path, tiny: TinyWorld) -> None:
    shutil.rmtree(small_disk / "runs", ignore_errors=True)
    command = [sys.executable, str(ROOT / "launch" / "slurm.py"), "--job", "tinybert_general", "--cluster", "local"]
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    settings = [
        f"data.corpus={tiny.corpus}",
        f"teacher.path={tiny.teacher}",
        f"student.config={tiny.student}",
        "data.max_length=48",
    ]
    ended = subprocess.run([*command, *settings], cwd=small_disk, capture_output=True, text=True)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert ended.returncode == 2
    assert "(Read-only file system): choose another --runs-dir" in ended.stderr
    assert "Traceback" not in ended.stderr
