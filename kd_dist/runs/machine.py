"""The machine at hand: its processor, GPU and memory, found without torch."""

import os
import platform
from pathlib import Path
from typing import NamedTuple


def processor() -> str:
    """Return the name of the processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def memory_gb() -> float:
    """Return the memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3


class Gpu(NamedTuple):
    """A GPU: its name, and its memory in GB."""

    name: str
    memory_gb: float


def gpu() -> Gpu | None:
    """Return the first GPU; None where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        if not pynvml.nvmlDeviceGetCount():
            return None
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return Gpu(pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetMemoryInfo(handle).total / 1024**3)
    except pynvml.NVMLError:
        return None
