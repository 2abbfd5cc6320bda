"""A whole job, run as a user would on one machine."""

import subprocess
import sys
from pathlib import Path

from tests.ranks import ROOT


def run_job(name: str, folder: Path, *settings: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Run all stages of a job in one process, which spares each a start; return the run folder and the output."""
    script = [sys.executable, str(ROOT / "kd_dist" / "train.py"), "--job", name, "--run-id", "a"]
    done = subprocess.run([*script, *settings], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / name / "a", done


def check_predictions(export: Path) -> None:
    """Check that a user can classify texts of the tests' labels with it."""
    script = [sys.executable, str(ROOT / "kd_dist" / "predict.py"), "--model", str(export)]
    done = subprocess.run(script, input="今天的比赛\n国家经济\n", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] in ("finance", "sport") for line in done.stdout.splitlines()] == [True, True]
