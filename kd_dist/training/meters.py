"""Meters of a training run: time, losses, memory and GPU utilization."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from kd_dist.models.device import own_device
from kd_dist.training.batches import PreparedBatch

Means = dict[str, float]


class Stopwatch:
    """A context manager that measures seconds; on a GPU with events, so that it does not wait for kernels."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __enter__(self) -> None:
        if torch.cuda.is_available():
            pair = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            pair[0].record()
            self._events.append(pair)
        self._started = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        if self._events:
            self._events[-1][1].record()
        else:
            self._seconds += time.perf_counter() - self._started

    def read(self) -> float:
        """Return the seconds since the last reading."""
        for begin, end in self._events:
            end.synchronize()
            self._seconds += begin.elapsed_time(end) / 1000
        seconds, self._seconds, self._events = self._seconds, 0.0, []
        return seconds


class Interval:
    """Sums over the steps between two logged steps on this rank."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.steps = 0
        self.terms: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
        self.samples = self.tokens = self.padded_tokens = 0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the time of the `with` block from the training time."""
        begun = time.perf_counter()
        yield
        self.started += time.perf_counter() - begun

    def add_batch(self, batch: PreparedBatch, terms: Mapping[str, Tensor]) -> None:
        """Add a micro-batch and its share of each loss term."""
        for term, value in terms.items():
            self.terms[term] = self.terms[term].to(value.device) + value.detach().double()
        mask = batch.tensors["attention_mask"]
        self.samples += mask.shape[0]
        self.tokens += int(mask.sum())
        self.padded_tokens += mask.numel()


def slowest_rank(seconds: Sequence[float]) -> Means:
    """Return which rank is the slowest, and its time as a multiple of the mean; nothing for a single rank.

    Args:
        seconds: What each rank took for work that waits for no other: getting its rows, and the forward passes. In
            all else the ranks wait for one another, and take the same time.
    """
    if len(seconds) == 1:
        return {}
    longest = max(seconds)
    return {
        "speed/slowest_rank": seconds.index(longest),
        "speed/slowest_over_mean": longest * len(seconds) / sum(seconds),
    }


def memory_and_use() -> Means:
    """Return the peak memory of this rank, of its GPU or else of the process, and the GPU utilization."""
    if not torch.cuda.is_available():
        unit = 1024**3 if sys.platform == "darwin" else 1024**2
        return {"speed/memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}
    return {"speed/memory_gb": torch.cuda.max_memory_allocated() / 1024**3, **_gpu_use()}


def _gpu_use() -> Means:
    """Return the GPU utilization; nothing where the driver does not report it, as for a part of a GPU."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(own_device()).uuid}")
        return {"speed/gpu_utilization": pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100}
    except pynvml.NVMLError:
        return {}
