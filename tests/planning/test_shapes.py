"""What a model costs, by its config.json, is what torch counts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from kd_dist.config.paths import model_config_file
from kd_dist.model_files.model_folders import read_config
from kd_dist.models.recurrent import RecurrentConfig, RecurrentForSequenceClassification
from kd_dist.planning.shapes import Shape

SMALL = {
    "bert": {"vocab_size": 500},
    "albert": {"vocab_size": 500, "embedding_size": 16},
    "distilbert": {"vocab_size": 500},
    "electra": {"vocab_size": 500, "embedding_size": 16},
}
ALIASES = {
    "distilbert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    }
}
SIZES = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192}


def counted(model: torch.nn.Module, length: int) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        model.eval()(input_ids=torch.zeros(1, length, dtype=torch.long))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("family", SMALL)
def test_weights_and_operations_of_encoders(family: str, tmp_path: Path) -> None:
    names = ALIASES.get(family, {})
    sizes: dict[str, Any] = {names.get(name, name): value for name, value in SIZES.items()}
    config = AutoConfig.for_model(family, **sizes, **SMALL[family])
    without_head = {"add_pooling_layer": False} if family in ("albert", "bert") else {}
    model = AutoModel.from_config(config, **without_head)
    config.save_pretrained(tmp_path)
    shape = Shape.of(read_config(tmp_path / "config.json"))
    assert shape.parameters() == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.05)
    for length in (8, 100):
        assert shape.operations(length) == pytest.approx(counted(model, length), rel=0.05)


def test_weights_of_recurrent_students() -> None:
    for cell in ("lstm", "gru"):
        config = RecurrentConfig(vocab_size=500, cell=cell)
        model = RecurrentForSequenceClassification(config)
        shape = Shape.of(config.to_dict())
        assert shape.parameters() == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.15)
        assert shape.operations(20) == 20 * (shape.parameters() - 500 * 256)


def test_a_student_gets_the_tokens_of_its_rows() -> None:
    config = read_config(model_config_file("tinybert_4l_312"))
    more = Shape.of(config, 31128).parameters() - Shape.of(config).parameters()
    assert more == 10_000 * 312


def test_more_activations_are_kept_than_one_layer_works_with() -> None:
    shape = Shape.of(read_config(model_config_file("bert_base")))
    assert shape.activations(128) > 4 * shape.working(128)
    assert shape.activations(256) == 2 * shape.activations(128)
