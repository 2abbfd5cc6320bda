"""Each process of a machine has a GPU of its own; without one it is the CPU."""

import pytest
import torch

from kd_dist.models.device import in_bf16, local_rank, own_device


def test_without_a_gpu_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device() == torch.device("cpu")


@pytest.mark.parametrize(("rank", "gpu"), [(None, 0), ("0", 0), ("3", 3), ("5", 1)])
def test_ranks_share_the_gpus_in_turn(rank: str | None, gpu: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert own_device() == torch.device("cuda", gpu)
    assert local_rank() == int(rank or 0)


@pytest.mark.parametrize("has_instructions", [False, True])
def test_automatic_precision_is_bf16_where_the_cpu_has_instructions_for_it(
    has_instructions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert [in_bf16(precision) for precision in ("fp32", "bf16", "auto")] == [False, True, has_instructions]


@pytest.mark.parametrize("has_instructions", [False, True])
def test_automatic_precision_asks_the_gpu_where_there_is_one(
    has_instructions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_instructions)
    assert in_bf16("auto") is has_instructions
