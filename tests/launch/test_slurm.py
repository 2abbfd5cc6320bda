"""The entry point: what it says without arguments, the list of jobs, and what its import costs."""

import subprocess
import sys
from pathlib import Path

from kd_dist.config.jobs import find_job, job_names
from kd_dist.config.paths import REPOSITORY
from tests.launch.launching import command, shown


def test_without_arguments_it_shows_three_commands(tmp_path: Path) -> None:
    text = shown(tmp_path)
    commands = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    assert len(commands) == 3
    assert all(line.startswith("python launch/slurm.py --") for line in commands)
    assert "--help" in text
    assert max(map(len, text.splitlines())) <= 80


def test_list_names_every_job_with_one_line_each(tmp_path: Path) -> None:
    lines = shown(tmp_path, "--list").splitlines()
    assert [line.split()[0] for line in lines] == job_names()
    assert all(find_job(line.split()[0]).description in line for line in lines)


def test_an_unknown_job_is_one_line(tmp_path: Path) -> None:
    ended = command(tmp_path, "--job", "tinybert_generl", "--options")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "did you mean `tinybert_general`?" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_its_import_and_every_job_load_no_torch_and_no_submitit() -> None:
    script = (
        "import sys, launch.slurm\n"
        "from kd_dist.config.jobs import find_job, job_names\n"
        "for name in job_names(): find_job(name)\n"
        "print(*{'torch', 'transformers', 'deepspeed', 'submitit', 'datasets', 'wandb'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ended.stdout == "\n"
