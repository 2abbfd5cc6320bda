"""The package installs by itself, serves without what trains, and asks for versions that the pins satisfy."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.ranks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OUR_OWN = {"kd_dist", "jobs", "launch", "benchmarks", "tests"}


def requirements(*extras: str) -> list[Requirement]:
    listed = PROJECT["dependencies"] + [text for extra in extras for text in PROJECT["optional-dependencies"][extra]]
    return [Requirement(text) for text in listed]


def names(*extras: str) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements(*extras)}


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, _, version in found}


def test_every_package_is_pinned_within_its_bounds() -> None:
    pinned = pins()
    for requirement in requirements("train", "serve", "dev"):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} has no pin in requirements.txt"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} excludes the pin {pinned[name]}"
        assert len(requirement.specifier) > 0, f"{name} has no bound"


def test_every_pin_belongs_to_the_package_or_to_an_extra() -> None:
    assert pins().keys() == names("train", "serve", "dev")


def test_every_import_is_declared() -> None:
    distributions = packages_distributions()
    declared = names("train", "serve")
    undeclared = set()
    for file in (path for folder in ("kd_dist", "jobs", "launch") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for module in {name.split(".")[0] for name in modules} - OUR_OWN - sys.stdlib_module_names:
                candidates = {canonicalize_name(name) for name in distributions.get(module, [module])}
                undeclared |= set() if candidates & declared else {f"{file.relative_to(ROOT)}: {module}"}
    assert undeclared == set()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as `pip install .` leaves it, without its dependencies; setuptools builds it without a network."""
    work = tmp_path_factory.mktemp("installed")
    source, target = work / "source", work / "site"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("kd_dist", "jobs", "launch", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", target, source], check=True, capture_output=True, text=True)
    return target


def test_an_installed_package_holds_all_code_and_configuration(installed: Path) -> None:
    for folder in ("kd_dist", "jobs", "launch", "configs"):
        kinds = (".py", ".json", ".yaml")
        expected = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.suffix in kinds}
        assert expected == {
            path.relative_to(installed) for path in (installed / folder).rglob("*") if path.suffix in kinds
        }


def test_serving_needs_nothing_of_the_extras(installed: Path, labelled, tmp_path: Path) -> None:
    """Labels come out of an installed package on a machine that has the base dependencies only."""
    extras = names("train", "serve") - names()
    modules = packages_distributions().items()
    missing = {module for module, found in modules if {canonicalize_name(name) for name in found} & extras}
    assert {"deepspeed", "submitit", "datasets", "wandb"} <= missing
    script = (
        "import runpy, sys\n"
        f"sys.modules |= dict.fromkeys({sorted(missing)})\n"  # None: importing it raises ModuleNotFoundError
        f"sys.path.insert(0, {str(installed)!r})\n"
        "import kd_dist.early_exit\n"
        f"assert kd_dist.__path__ == [{str(installed / 'kd_dist')!r}], kd_dist.__path__\n"
        "runpy.run_module('kd_dist.predict', run_name='__main__', alter_sys=True)\n"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", script, "--model", str(labelled.teacher)],
        cwd=tmp_path,
        input="今天的比赛\n中国经济\n",
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"((finance|sport)\t0\.\d{4}\n){2}", result.stdout)
