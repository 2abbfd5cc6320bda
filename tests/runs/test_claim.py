"""One process at a time starts or runs a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kd_dist.errors import UserError
from kd_dist.runs.claim import claim
from tests.conftest import ROOT

HOLD = """
import sys; from pathlib import Path; from kd_dist.runs.claim import claim
claim(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()
"""


def test_the_second_is_refused_and_told_of_the_first_until_that_has_ended(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "job" / "a"
    words = [sys.executable, "-c", HOLD, str(run_dir)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        said = rf"^run a is being started or run already, by process {first.pid} on {os.uname().nodename}: wait for it"
        with pytest.raises(UserError, match=said):
            claim(run_dir)
        claim(tmp_path / "runs" / "job" / "b")  # another run is free
        first.kill()
    claim(run_dir)


START_AND_DIE = """
import os, signal, subprocess, sys; from pathlib import Path; from kd_dist.runs.claim import claim
claim(Path(sys.argv[1]))
rank = "import sys, time; time.sleep(2); open(sys.argv[1], 'w')"
subprocess.Popen([sys.executable, "-c", rank, sys.argv[2]], close_fds=False)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_ranks_that_outlive_a_killed_launcher_are_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_dir, saved = tmp_path / "runs" / "job" / "a", tmp_path / "saved"
    subprocess.run([sys.executable, "-c", START_AND_DIE, str(run_dir), str(saved)], cwd=ROOT, check=False)
    assert not saved.exists()
    claim(run_dir)
    assert saved.exists()
    assert "which was killed, to save and end" in capfd.readouterr().err
