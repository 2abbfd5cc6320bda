"""Write nezha_golden.json: what transformers 4.40.2, which had NEZHA, computes with weights that `fill` makes.

python -m venv old && old/bin/pip install torch==2.13.0 transformers==4.40.2
old/bin/python tests/models/nezha_golden.py
"""

import json
import zlib
from pathlib import Path

import torch

CONFIG = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "max_relative_position": 3,
    "num_labels": 3,
}
IDS = [[2, 7, 8, 9, 10, 11, 12, 13, 3], [2, 20, 21, 22, 3, 0, 0, 0, 0]]
MASK = [[1] * 9, [1] * 5 + [0] * 4]
TYPES = [[0] * 5 + [1] * 4, [0] * 9]
FILE = Path(__file__).with_suffix(".json")


@torch.no_grad()
def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter numbers that depend on its name alone, so large that each part of the model matters."""
    for name, tensor in model.named_parameters():
        phase = zlib.crc32(name.encode()) % 1000
        tensor.copy_(torch.sin(torch.arange(tensor.numel()) * 1.7 + phase).view_as(tensor) * 0.7)
    return model.eval()


def inputs() -> dict[str, torch.Tensor]:
    rows = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}
    return {name: torch.tensor(row) for name, row in rows.items()}


@torch.no_grad()
def main() -> None:
    from transformers import NezhaConfig, NezhaForMaskedLM, NezhaForSequenceClassification, NezhaModel

    config = NezhaConfig(**CONFIG)
    encoder, classifier, masked = (
        fill(kind(config)) for kind in (NezhaModel, NezhaForSequenceClassification, NezhaForMaskedLM)
    )
    masked.tie_weights()
    outputs = encoder(**inputs())
    golden = {
        "last_hidden_state": outputs.last_hidden_state.tolist(),
        "pooler_output": outputs.pooler_output.tolist(),
        "logits": classifier(**inputs()).logits.tolist(),
        "masked": masked(**inputs()).logits[:, :2].tolist(),
        "tensors": {name: list(tensor.shape) for name, tensor in classifier.state_dict().items()},
    }
    FILE.write_text(json.dumps(golden) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
