"""The device of this process."""

import os

import torch


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def own_device() -> torch.device:
    """This rank's GPU, or the CPU."""
    return (
        torch.device("cuda", local_rank() % torch.cuda.device_count())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )
