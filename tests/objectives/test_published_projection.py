"""The `fit_dense` of TinyBERT's published students is where the projections start."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kd_dist.models.loading import print_note
from kd_dist.objectives.published_projection import load_published_projection
from tests.conftest import TinyWorld
from tests.objectives.test_tinybert import objective

WEIGHT, BIAS = torch.arange(12.0).reshape(4, 3), torch.ones(4)


@pytest.fixture(autouse=True)
def _notes_anew() -> None:
    print_note.cache_clear()


def student(folder: Path, front: str, pickled: bool) -> None:
    tensors = {f"{front}fit_dense.weight": WEIGHT, f"{front}fit_dense.bias": BIAS, f"{front}other": torch.zeros(2)}
    if pickled:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(("front", "pickled"), [("", True), ("module.", True), ("", False)])
def test_every_projection_starts_from_it(
    front: str, pickled: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student(tmp_path, front, pickled)
    projections = nn.ModuleDict({"embeddings": nn.Linear(3, 4), "layers": nn.Linear(3, 4)})
    load_published_projection(tmp_path, projections)
    for name, tensor in projections.state_dict().items():
        assert torch.equal(tensor, WEIGHT if name.endswith("weight") else BIAS)
    assert "fit_dense is taken up as the projection to the teacher's width" in capsys.readouterr().err


def test_other_widths_start_anew_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student(tmp_path, "", pickled=True)
    projections = nn.ModuleDict({"all": nn.Linear(3, 8)})
    before: dict[str, Tensor] = {name: tensor.clone() for name, tensor in projections.state_dict().items()}
    load_published_projection(tmp_path, projections)
    assert all(torch.equal(tensor, before[name]) for name, tensor in projections.state_dict().items())
    assert (
        "is for other widths ([4, 3], not [8, 3]): the projections are initialized randomly" in capsys.readouterr().err
    )


def test_one_for_each_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {
        f"fit_denses.{layer}.{part}": tensor + layer
        for layer in range(3)
        for part, tensor in (("weight", WEIGHT), ("bias", BIAS))
    }
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    projections = nn.ModuleDict({f"layer_{layer}": nn.Linear(3, 4) for layer in range(3)})
    load_published_projection(tmp_path, projections)
    for layer in range(3):
        assert torch.equal(projections[f"layer_{layer}"].weight, WEIGHT + layer)
    capsys.readouterr()
    load_published_projection(tmp_path, nn.ModuleDict({"all": nn.Linear(3, 4)}))
    assert "are for objective.projection=per_layer: the projections are initialized randomly" in capsys.readouterr().err


def test_a_student_without_it_changes_nothing(tiny: TinyWorld, capsys: pytest.CaptureFixture[str]) -> None:
    projections = nn.ModuleDict({"all": nn.Linear(3, 8)})
    load_published_projection(tiny.teacher, projections)
    assert capsys.readouterr().err == ""


def test_the_projections_of_a_stage_before_count_more(tiny: TinyWorld, tmp_path: Path) -> None:
    method = objective(tiny, projection="shared")
    method.save_extras(tmp_path)
    shape = method.projections["all"].weight.shape
    weights = load_file(tiny.teacher / "model.safetensors")
    save_file(
        weights | {"fit_dense.weight": torch.ones(shape), "fit_dense.bias": torch.ones(shape[0])},
        tmp_path / "model.safetensors",
    )
    again = objective(tiny, projection="shared")
    again.load_extras(tmp_path)
    assert torch.equal(again.projections["all"].weight, method.projections["all"].weight)
    (tmp_path / "projections.safetensors").unlink()
    again.load_extras(tmp_path)
    assert torch.equal(again.projections["all"].weight, torch.ones(shape))
