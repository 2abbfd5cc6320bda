"""Model folders that need no torch: a config.json, weights of which only the header is there, and a vocabulary."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_dist.config.families import FAMILIES, unsupported, with_common_names
from kd_dist.model_files.encoder_weights import encoder_shapes

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_vocabulary(folder: Path, tokens: Sequence[str] = VOCABULARY) -> None:
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")


def write_header(folder: Path, shapes: Mapping[str, Sequence[int]], name: str = "model.safetensors") -> None:
    """Write a safetensors file with names and shapes and no numbers behind them."""
    tensors = {key: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]} for key, shape in shapes.items()}
    header = json.dumps(tensors).encode()
    (folder / name).write_bytes(len(header).to_bytes(8, "little") + header)


def write_weights(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the header of the weights that fit a config.json, with a masked-language-model head if that names one.

    Sizes that it does not say are 1.
    """
    content = with_common_names(config)
    is_known = not unsupported(content) and isinstance(content.get("num_hidden_layers"), int)
    shapes = encoder_shapes(content) if is_known else {}
    if any(name.endswith("ForMaskedLM") for name in content.get("architectures") or []):
        shapes[f"{FAMILIES[content['model_type']].masked_head_weights}weight"] = (1,)
    write_header(folder, {name: [abs(size) for size in shape] for name, shape in shapes.items()})
