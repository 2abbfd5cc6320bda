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
