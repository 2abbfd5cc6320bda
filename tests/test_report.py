"""The report command writes the page of a run, or says in one line why it cannot."""

import subprocess
import sys
from pathlib import Path

from kd_dist.config.paths import REPOSITORY
from tests.reporting.pages import Page, write


def report(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "kd_dist" / "report.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_the_command_line(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "the_job" / "run-1"
    write(run_dir / "job.json", {"name": "the_job", "stages": {"train": {"kind": "train"}}, "result": "train"})
    done = report(tmp_path, str(run_dir), "--output", "page.html")
    assert (done.returncode, done.stdout) == (0, "page.html\n"), done.stderr
    assert "the_job" in Page(tmp_path / "page.html").text
    assert report(tmp_path, str(run_dir)).stdout == f"{run_dir / 'report.html'}\n"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    refused = report(tmp_path, str(tmp_path))
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr
