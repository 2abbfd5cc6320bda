"""What the import contracts of pyproject.toml cannot say about the layout of the code."""

import subprocess
import sys
from pathlib import Path

from kd_dist.config.jobs import job_names
from tests.ranks import ROOT

COMMANDS = {"train.py", "predict.py", "evaluate.py", "report.py"}
MAX_LINES = 400


def source_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_the_root_of_the_package_holds_the_commands_and_little_else() -> None:
    files = {path.name for path in (ROOT / "kd_dist").glob("*.py")}
    assert files == COMMANDS | {"__init__.py", "errors.py", "files.py", "early_exit.py"}


def test_package_files_are_empty() -> None:
    packages = [path for path in source_files("kd_dist", "jobs", "launch") if path.name == "__init__.py"]
    assert packages
    assert [path for path in packages if path.read_text(encoding="utf-8").strip()] == []


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in source_files("kd_dist", "launch")}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_configuration_planning_and_every_job_load_without_torch() -> None:
    folders = ("kd_dist/config", "kd_dist/model_files", "kd_dist/runs", "kd_dist/planning", "launch")
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in source_files(*folders)]
    modules += [f"jobs.{name}" for name in job_names()]
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert not {'torch', 'transformers', 'deepspeed'} & set(sys.modules), name\n"
    )
    result = subprocess.run([sys.executable, "-c", script, *modules], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
