"""The projection beside a student of TinyBERT's published code: one layer, `fit_dense`, for all hidden states."""

from pathlib import Path

from torch import Tensor, nn

from kd_dist.config.model_configs import TINYBERT_PROJECTION
from kd_dist.config.weight_files import tensor_shapes
from kd_dist.models.loading import load_tensors, say

PARTS = ("weight", "bias")


def take_up_published_projection(folder: Path, projections: nn.ModuleDict) -> None:
    """Start every projection from the `fit_dense` in a student's weights, if it is there and of the same widths.

    In the published code one matrix serves the embeddings and all layers, so each of several starts from it.
    """
    found = {part: _full_name(folder, part) for part in PARTS}
    names = [name for name in found.values() if name]
    if len(names) < len(PARTS):
        return
    tensors = load_tensors(folder, names)
    own: dict[str, Tensor] = projections.state_dict()
    new = {name: tensors[found[name.rsplit(".", 1)[1]]] for name in own}
    if any(new[name].shape != tensor.shape for name, tensor in own.items()):
        width, teacher_width = tensors[found["weight"]].shape[::-1]
        say(
            f"{folder}: its {TINYBERT_PROJECTION} takes {width} to {teacher_width} wide, which are other widths: the "
            "projections start anew"
        )
        return
    projections.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in new.items()})
    say(f"{folder}: its {TINYBERT_PROJECTION} is taken up as the projection to the teacher's width")


def _full_name(folder: Path, part: str) -> str:
    ending = f"{TINYBERT_PROJECTION}.{part}"
    return next((name for name in tensor_shapes(folder) if name == ending or name.endswith(f".{ending}")), "")
