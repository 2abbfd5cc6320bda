"""Nothing that a killed process has forked outlives it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from kd_dist.runs.offspring import end_children
from tests.conftest import ROOT

FORK_AND_DIE = """
import os, signal
from multiprocess import Manager, Pool
from kd_dist.runs.offspring import end_forks_with_this

end_forks_with_this()
manager, pool = Manager(), Pool(2)  # as datasets has them when several processes tokenize
assert pool.map(abs, [-1, -2]) == [1, 2]
print(manager._process.pid, *(worker.pid for worker in pool._pool), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_forked_ends_with_it() -> None:
    command = [sys.executable, "-c", FORK_AND_DIE]
    killed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60)  # they hold the pipe, too
    assert killed.returncode == -signal.SIGKILL
    pids = [int(word) for word in killed.stdout.split()]
    assert len(pids) == 3
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if _runs(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_children_of_one_program_are_ended() -> None:
    sleeping, other = subprocess.Popen(["sleep", "60"]), subprocess.Popen(["tail", "-f", "/dev/null"])
    end_children("sleep")
    assert sleeping.wait(10) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()


def _runs(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
