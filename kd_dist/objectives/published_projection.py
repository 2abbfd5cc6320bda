"""The projections beside a student of TinyBERT's published code: `fit_dense`, or one in `fit_denses` for each layer."""

import re
from pathlib import Path

from torch import Tensor, nn

from kd_dist.model_files.model_configs import TINYBERT_PROJECTION
from kd_dist.model_files.weight_files import tensor_shapes
from kd_dist.models.loading import load_tensors, print_note

RANDOM = "the projections are initialized randomly"

PUBLISHED = re.compile(rf"(?:^|\.)({TINYBERT_PROJECTION}|{TINYBERT_PROJECTION}s\.\d+)\.(weight|bias)$")


def load_published_projection(folder: Path, projections: nn.ModuleDict) -> None:
    """Start the projections from those in a student's weights, if they are there and of the same widths.

    In the first published code one matrix, `fit_dense`, serves the embeddings and all layers, so each of several starts
    from it. In the second, `fit_denses.i` is that of layer i, 0 for the embeddings.
    """
    found = {f"{match[1]}.{match[2]}": name for name in tensor_shapes(folder) if (match := PUBLISHED.search(name))}
    if not found:
        return
    own: dict[str, Tensor] = projections.state_dict()
    sources = {name: _source(name, found) for name in own}
    if not all(source in found for source in sources.values()):
        print_note(f"{folder}: its {TINYBERT_PROJECTION}s are for objective.projection=per_layer: {RANDOM}")
        return
    tensors = load_tensors(folder, list(found.values()))
    new = {name: tensors[found[source]].to(own[name].dtype) for name, source in sources.items()}
    if other := [name for name, tensor in own.items() if new[name].shape != tensor.shape]:
        shapes = f"{list(new[other[0]].shape)}, not {list(own[other[0]].shape)}"
        print_note(f"{folder}: its {TINYBERT_PROJECTION} is for other widths ({shapes}): {RANDOM}")
        return
    projections.load_state_dict(new)
    print_note(f"{folder}: its {TINYBERT_PROJECTION} is taken up as the projection to the teacher's width")


def _source(name: str, found: dict[str, str]) -> str:
    """Return the published name of a projection's weight or bias: `all.weight`, `layer_3.bias`."""
    layer, part = name.split(".")
    if f"{TINYBERT_PROJECTION}.{part}" in found:
        return f"{TINYBERT_PROJECTION}.{part}"
    return f"{TINYBERT_PROJECTION}s.{layer.removeprefix('layer_')}.{part}"
