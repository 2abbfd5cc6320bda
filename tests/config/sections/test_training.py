"""Batch sizes, ranks and the number of steps."""

import re

import pytest

from kd_dist.config.jobs import resolve_job
from kd_dist.config.sections.training import Train
from tests.config.refusals import refusal
from tests.loading import load_job

WAY_OUT = re.compile(r"(\S+\.train\.\w+_batch_size=\d+(?: \S+\.train\.micro_batch_size=\d+)?) \([^)]* (\d+) micro")


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_micro_batch_of_a_cpu_does_not_depend_on_the_ranks(world_size: int) -> None:
    train = Train(global_batch_size=256)
    assert train.problems("distill", world_size) == []
    assert train.sequences_per_micro_batch(world_size) == 32


@pytest.mark.parametrize("world_size", [16, 64, 256])
def test_more_ranks_than_micro_batches_share_a_step_in_smaller_ones(world_size: int) -> None:
    train = Train(global_batch_size=256)
    assert train.problems("distill", world_size) == []
    assert train.sequences_per_micro_batch(world_size) == 256 // world_size


@pytest.mark.parametrize(("world_size", "most", "size"), [(1, 409, 256), (4, 409, 64), (1, 32, 32), (1, 100, 64)])
def test_a_gpu_takes_the_share_of_a_rank_in_as_few_passes_as_fit(world_size: int, most: int, size: int) -> None:
    assert Train(global_batch_size=256).sequences_per_micro_batch(world_size, most) == size
    assert Train(global_batch_size=256, micro_batch_size=8).sequences_per_micro_batch(world_size, most) == 8


@pytest.mark.parametrize("global_batch_size", [1, 2, 3, 7, 64, 96, 1000, 4096])
def test_default_micro_batch_divides_the_global_batch(global_batch_size: int) -> None:
    assert Train(global_batch_size=global_batch_size).problems("distill", world_size=1) == []


def test_micro_batch_that_does_not_divide_is_refused() -> None:
    message = refusal("train.global_batch_size=100", "train.micro_batch_size=32")
    assert "train.global_batch_size=100 is not a multiple of train.micro_batch_size=32" in message


BATCHES = [[], ["train.global_batch_size=96", "train.micro_batch_size=32"], ["train.global_batch_size=6"]]


@pytest.mark.parametrize("batch", BATCHES, ids=",".join)
@pytest.mark.parametrize("job", ["tinybert_general", "tinybert", "fastbert", "demo"])
def test_way_out_of_a_batch_that_does_not_divide_among_ranks_works(job: str, batch: list[str]) -> None:
    for ranks in range(1, 17):
        settings = [f"resources.gpus_per_node={ranks}", *batch]
        problems = resolve_job(job, settings).problems
        told = (f"do not divide among {ranks} ranks", "is not a multiple of train.micro_batch_size=32")  # of the demo
        ways = [WAY_OUT.findall(problem) for problem in problems if any(words in problem for words in told)]
        assert len(ways) == len(problems)
        assert all(ways)
        for choose in (0, -1):
            chosen = [setting for way in ways for setting in way[choose][0].split()]
            stages = load_job(job, settings + chosen).stages
            for setting, accumulated in (way[choose] for way in ways):
                stage = stages[setting.partition(".")[0]]
                micro_batches = stage.train.global_batch_size // stage.train.sequences_per_micro_batch(ranks)
                assert micro_batches == ranks * int(accumulated)


def test_way_out_keeps_the_global_batch_where_it_can_and_else_is_near() -> None:
    assert refusal("resources.gpus_per_node=4", *BATCHES[1]).endswith(
        "do not divide among 4 ranks: set distill.train.micro_batch_size=24 (each rank then accumulates 1 micro-batch "
        "a step)"
    )
    assert refusal("resources.gpus_per_node=3").endswith(
        "do not divide among 3 ranks: set distill.train.global_batch_size=288 "
        "distill.train.micro_batch_size=32 (each rank then accumulates 3 micro-batches a step)"
    )
    assert refusal("train.global_batch_size=100", "train.micro_batch_size=32").endswith(
        "set distill.train.micro_batch_size=25 (each rank then accumulates 4 micro-batches a step), or "
        "distill.train.global_batch_size=96 distill.train.micro_batch_size=32 (each rank then accumulates 3 "
        "micro-batches a step)"
    )


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({"steps": 5, "epochs": 1}, 5), ({"epochs": 1}, 4), ({"epochs": 0.5}, 2), ({"epochs": 0.001}, 1)],
)
def test_total_steps_cover_the_epochs(settings: dict[str, float], steps: int) -> None:
    assert Train(global_batch_size=256, **settings).total_steps(num_rows=1000) == steps
