"""Where a stage runs: ranks, GPUs, threads."""

import pytest

from kd_dist.config.jobs import find_job
from kd_dist.planning.places import INSIDE_GBIT, Place, Site
from kd_dist.planning.step_times import StepTimes

TIMES = {"gpu": StepTimes("gpu"), "cpu": StepTimes("cpu")}
CLUSTER = Site(True, None, 4, 100.0, 80.0, TIMES)
ONE_MACHINE = Site(False, 4, 8, 100.0, None, TIMES)
STAGES = find_job("tinybert_task").stages


@pytest.mark.parametrize(
    ("name", "ranks", "on_a_cluster", "here"),
    [
        ("labelled", 8, (1, False, 8), (1, False, 4)),  # one process, whatever others have
        ("check", 8, (1, True, 8), (1, False, 4)),
        ("distill", None, (1, True, 4), (1, False, 4)),
        ("distill", 2, (2, True, 4), (2, False, 2)),
        ("outputs", 8, (8, True, 8), (8, False, 1)),
    ],
)
def test_ranks_gpus_and_threads(name: str, ranks: int | None, on_a_cluster: tuple, here: tuple) -> None:
    for site, expected in ((CLUSTER, on_a_cluster), (ONE_MACHINE, here)):
        place = Place.of(STAGES[name], site, ranks)
        assert (place.ranks, place.on_gpus, place.threads) == expected
        assert place.times is TIMES["gpu" if place.on_gpus else "cpu"]


def test_gradients_take_longer_between_nodes() -> None:
    assert CLUSTER.exchange_seconds(1e9, 1) == 0
    assert CLUSTER.exchange_seconds(1e9, 4) == pytest.approx(1.5 * 8 / INSIDE_GBIT)
    assert CLUSTER.exchange_seconds(1e9, 8) == pytest.approx(1.75 * 8 / 100)
