"""What the jobs are shaken with: how often, from which seed, and where the figures go."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.figures import Figures
from tests.chaos.forker import Forker
from tests.chaos.jobs import World, make_world
from tests.conftest import LabelledWorld, TinyWorld
from tests.slurm.conftest import slurm, slurm_installed  # noqa: F401 - fixtures


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=50, help="how often jobs are killed in all (default: 50)")
    parser.addoption("--chaos-seed", default="1", help="another seed kills at other moments (default: 1)")
    parser.addoption("--figures", type=Path, help="a file of JSON lines that survived kills are added to")


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    with Forker() as forker:
        yield forker


@pytest.fixture(scope="session")
def world(tiny: TinyWorld, labelled: LabelledWorld, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tiny, labelled, tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    return Figures(request.config.getoption("--figures"))
