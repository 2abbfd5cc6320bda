"""What ranks tell each other, with two real ranks."""

import json
import os
import time
from pathlib import Path
from typing import Any

from kd_dist.errors import RunError
from kd_dist.training import distributed
from tests.ranks import run_ranks


def talk() -> dict[str, Any]:
    """What rank 0 hears; the other rank's part is in the sums, the gathered values and the maxima."""
    import torch.distributed

    distributed.set_environment_defaults()
    torch.distributed.init_process_group("gloo")
    rank = distributed.rank()
    heard: dict[str, Any] = {
        "ranks": [distributed.world_size(), distributed.ranks_of_this_node()],
        "broadcast": distributed.broadcast({"from": rank}),
        # Float32 would lose the small summand.
        "sums": distributed.sum_over_ranks([2.0**40 if rank else 1.0, rank + 0.25]),
        "gathered": distributed.gather([rank, "价"]),
    }
    maximum = distributed.DelayedMaximum()
    heard["maxima"] = [maximum.exchange(value) for value in ([0, 3, 0, 0] if rank else [1, 0, 0, 0])]
    maximum.finish()
    distributed.barrier()
    return heard


def tell_places_and_leave(told: str) -> None:
    """Rank 1 asks where the others are later than rank 0, whose process keeps all places and ends at once."""
    import torch.distributed

    distributed.set_environment_defaults()
    torch.distributed.init_process_group("gloo")
    rank = distributed.rank()
    distributed.barrier()
    time.sleep(rank)
    places = distributed.exchange_places(f"place {rank}", seconds=2.0)
    Path(told, str(rank)).write_text(json.dumps(places))
    print("RESULT null", flush=True)
    os._exit(0)


def test_a_rank_that_asks_later_still_hears_where_rank_0_was(tmp_path: Path) -> None:
    run_ranks(2, "tests.training.test_distributed:tell_places_and_leave", str(tmp_path))
    for rank in ("0", "1"):
        assert json.loads((tmp_path / rank).read_text()) == ["place 0", "place 1"]


def test_ranks_hear_each_other_in_order_and_in_double_precision() -> None:
    assert run_ranks(2, "tests.training.test_distributed:talk") == {
        "ranks": [2, 2],
        "broadcast": {"from": 0},
        "sums": [2.0**40 + 1, 1.5],
        "gathered": [[0, "价"], [1, "价"]],
        "maxima": [0, 1, 3, 0],
    }


def ask_rank_0(folder: str) -> list[Any]:
    """What each rank gets of what rank 0 does alone, and of what it cannot do."""
    import torch.distributed

    distributed.set_environment_defaults()
    torch.distributed.init_process_group("gloo")

    def act() -> str:
        (Path(folder) / f"by_{distributed.rank()}").touch()
        return "done"

    def fail() -> None:
        raise RunError("cannot be done")

    got: list[Any] = [distributed.from_rank_0(act)]
    try:
        distributed.from_rank_0(fail)
    except RunError as error:
        got.append(str(error))
    return distributed.gather(got)


def test_rank_0_acts_for_all_and_its_failure_is_that_of_all(tmp_path: Path) -> None:
    assert run_ranks(2, "tests.training.test_distributed:ask_rank_0", str(tmp_path)) == [["done", "cannot be done"]] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["by_0"]


def test_a_process_without_a_launcher_is_the_only_rank(monkeypatch: Any) -> None:
    # So that what is set below is removed again.
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    distributed.set_environment_defaults()
    assert (distributed.rank(), distributed.world_size(), distributed.ranks_of_this_node()) == (0, 1, 1)
    assert int(os.environ["MASTER_PORT"]) > 0


def test_ranks_of_a_machine_share_its_cores(monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    for variable, ranks, threads in (("LOCAL_WORLD_SIZE", "4", 1), ("LOCAL_SIZE", "2", 3), ("LOCAL_SIZE", "12", 1)):
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        monkeypatch.setenv(variable, ranks)
        assert distributed.threads_per_rank() == threads
