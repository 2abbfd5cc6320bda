"""Names and shapes in files of torch.save, of either format; nothing in a file is run."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kd_dist.errors import UserError
from kd_dist.model_files.pickled_weights import pickled_shapes


class Attack:
    """Runs a command wherever a pickle is read carelessly."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_shapes_of_a_state_dict(zipped: bool, tmp_path: Path):
    model = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5))
    torch.save(model.state_dict(), tmp_path / "weights", _use_new_zipfile_serialization=zipped)
    assert pickled_shapes(tmp_path / "weights") == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }


def test_parameters_and_half_precision(tmp_path: Path):
    torch.save({"a": nn.Parameter(torch.zeros(2, 3)), "b": torch.zeros(4, dtype=torch.bfloat16)}, tmp_path / "weights")
    assert pickled_shapes(tmp_path / "weights") == {"a": (2, 3), "b": (4,)}


def test_nothing_in_the_file_is_run(tmp_path: Path):
    torch.save({"a": torch.zeros(2), "b": Attack(tmp_path / "trace")}, tmp_path / "weights")
    assert pickled_shapes(tmp_path / "weights") == {"a": (2,)}
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nn.Linear(2, 2), "whole pickled model.*state_dict"),
        ({"model_state_dict": nn.Linear(2, 2).state_dict(), "step": 3}, r"checkpoint.*\['model_state_dict'\]"),
        ({"step": 3}, "holds no tensors, only step"),
    ],
)
def test_what_is_no_state_dict(content: Any, message: str, tmp_path: Path):
    torch.save(content, tmp_path / "weights")
    with pytest.raises(UserError, match=message):
        pickled_shapes(tmp_path / "weights")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut off", b"\x80\x02K\x01."])
def test_damaged_files(content: bytes, tmp_path: Path):
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(UserError, match="damaged, or no file of torch.save"):
        pickled_shapes(tmp_path / "weights")


def test_parameters_with_attributes_and_subclasses_of_tensors(tmp_path: Path):
    parameter = nn.Parameter(torch.zeros(2, 3))
    parameter.sequence_parallel = True  # type: ignore[attr-defined]
    buffer = torch.zeros(4)
    buffer.note = "x"  # type: ignore[attr-defined]
    torch.save({"a": parameter, "b": buffer}, tmp_path / "weights")
    assert pickled_shapes(tmp_path / "weights") == {"a": (2, 3), "b": (4,)}


def test_a_length_that_is_nonsense_is_damage(tmp_path: Path):
    (tmp_path / "weights").write_bytes(b"\x80\x04\x8e" + b"\xff" * 8)
    with pytest.raises(UserError, match="damaged"):
        pickled_shapes(tmp_path / "weights")
