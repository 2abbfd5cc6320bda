"""The device of this process."""

import os

import torch

# cuDNN plans its attention anew for every shape, which takes 50 to 100 ms, and rows of any length make many shapes.
torch.backends.cuda.enable_cudnn_sdp(False)


def local_rank() -> int:
    """Return the number of this process on its machine, as torch's launchers and SLURM tasks set it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def own_device() -> torch.device:
    """Return the GPU of this process, or the CPU where there is none."""
    return (
        torch.device("cuda", local_rank() % torch.cuda.device_count())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def memory_gb() -> float | None:
    """Return the memory of this process's GPU; None on a CPU."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(own_device()).total_memory / 1024**3


def in_bf16(precision: str) -> bool:
    """Return whether a setting of precision means bf16 here: `auto` does where the processor computes in it."""
    return precision == "bf16" or (precision == "auto" and _computes_bf16())


def _computes_bf16() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
