"""Batch sizes, ranks and the number of steps."""

import pytest

from kd_dist.config.sections.training import Train
from tests.config.refusals import refusal
from tests.loading import load_job


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_micro_batch_does_not_depend_on_the_ranks(world_size: int) -> None:
    train = Train(global_batch_size=256)
    assert train.problems(world_size) == []
    steps = train.accumulation_steps(world_size)
    assert steps * world_size * train.sequences_per_micro_batch() == 256


@pytest.mark.parametrize("global_batch_size", [1, 2, 3, 7, 64, 96, 1000, 4096])
def test_default_micro_batch_divides_the_global_batch(global_batch_size: int) -> None:
    assert Train(global_batch_size=global_batch_size).problems(world_size=1) == []


def test_micro_batch_that_does_not_divide_is_refused() -> None:
    message = refusal("train.global_batch_size=100", "train.micro_batch_size=32")
    assert "train.global_batch_size=100 is not a multiple of train.micro_batch_size=32" in message


@pytest.mark.parametrize(
    ("overrides", "way_out"),
    [
        (["train.global_batch_size=96", "train.micro_batch_size=32"], ["train.micro_batch_size=24"]),
        (["train.global_batch_size=6"], ["train.global_batch_size=8"]),
    ],
)
def test_way_out_of_a_batch_that_does_not_divide_among_ranks_works(overrides: list[str], way_out: list[str]) -> None:
    ranks = ["resources.gpus_per_node=4"]
    assert "do not divide among 4 ranks: set " + way_out[0].split("=")[0] in refusal(*ranks, *overrides)
    load_job("tinybert_general", ranks + overrides + way_out)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({"steps": 5, "epochs": 1}, 5), ({"epochs": 1}, 4), ({"epochs": 0.5}, 2), ({"epochs": 0.001}, 1)],
)
def test_total_steps_cover_the_epochs(settings: dict[str, float], steps: int) -> None:
    assert Train(global_batch_size=256, **settings).total_steps(num_rows=1000) == steps
