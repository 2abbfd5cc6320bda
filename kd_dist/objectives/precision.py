"""The precision of losses: at least float32, whatever the models run in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_BACKENDS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
_OLDER: dict[tuple[str, ...], str] = {("tf32", "tf32"): "high", ("tf32", "bf16"): "medium"}


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or as it is where it is more precise."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Turn off autocast, TF32 and their CPU counterparts within the context."""
    before = tuple(backend.fp32_precision for backend in _BACKENDS)
    with torch.autocast(device_type, enabled=False):
        try:
            _set_precision(("ieee", "ieee"))
            yield
        finally:
            _set_precision(before)


def _set_precision(precisions: tuple[str, ...]) -> None:
    """Set the precision of products of each backend, and PyTorch's older switches, which must agree to be readable."""
    torch.set_float32_matmul_precision(_OLDER.get(precisions, "highest"))
    for backend, precision in zip(_BACKENDS, precisions, strict=True):
        backend.fp32_precision = precision
