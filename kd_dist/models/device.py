"""The device of this process."""

import os

import torch


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
