"""Every job, killed at any moment and started again, ends with what an undisturbed run ends with, bit for bit."""

import itertools
import math
from pathlib import Path

import pytest

from tests.chaos.figures import Figures
from tests.chaos.forker import Forker
from tests.chaos.jobs import World, settings_of
from tests.chaos.shaking import Shaker

pytestmark = pytest.mark.chaos

KILLS_OF_A_RUN = 4
FORKED = [
    *((job, 1) for job in ("finetune", "tinybert_general", "tinybert", "tinybert_task", "fastbert")),
    *((job, 1) for job in ("fastbert_stage1", "augment", "rnn", "soft_labels", "minilm", "pretrain")),
    *((job, 1) for job in ("pretrain_xlnet", "cut_vocabulary", "ensemble", "textgcn", "granularity", "demo")),
    *((job, 2) for job in ("tinybert_general", "fastbert", "rnn")),
]
LAUNCHED = [("tinybert_general", 1), ("fastbert_stage1", 2), ("fastbert", 2)]
SHARE_OF_LAUNCHED = 0.2  # they cost most of the time
LONGER = ["train.steps=150", "cadence.evaluate_every_n_steps=40"]  # or all of their kills would come during imports


def shake(shaker: Shaker, kills: float, seed: str, figures: Figures) -> list[str]:
    """Run a job until so many kills were survived, or a run ends in another way; return its seed and how it differs."""
    for run in itertools.count():
        if (survived := len(shaker.kills)) >= kills:
            break
        of_run = f"{seed}-{shaker.job}-{shaker.ranks}-{run}"
        if differing := shaker.shake(of_run, min(KILLS_OF_A_RUN, math.ceil(kills) - survived)):
            return [of_run, *differing]
        figures.add(shaker.kills[survived:])
    return []


@pytest.mark.parametrize(("job", "ranks"), FORKED)
def test_a_forked_job_survives(
    request: pytest.FixtureRequest, forker: Forker, world: World, figures: Figures, tmp_path: Path, job: str, ranks: int
) -> None:
    kills = request.config.getoption("--kills") * (1 - SHARE_OF_LAUNCHED) / len(FORKED)
    shaker = Shaker(job, settings_of(job, world), tmp_path / "job", forker, ranks)
    assert shake(shaker, kills, request.config.getoption("--chaos-seed"), figures) == []


@pytest.mark.parametrize(("job", "ranks"), LAUNCHED)
def test_a_job_that_is_launched_survives(
    request: pytest.FixtureRequest, world: World, figures: Figures, tmp_path: Path, job: str, ranks: int
) -> None:
    kills = request.config.getoption("--kills") * SHARE_OF_LAUNCHED / len(LAUNCHED)
    shaker = Shaker(job, [*settings_of(job, world), *LONGER], tmp_path / "job", None, ranks)
    assert shake(shaker, kills, request.config.getoption("--chaos-seed"), figures) == []
