"""The tensors that an encoder needs are those that transformers gives it, and a prefix before all of them is fine."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel

from kd_dist.config.families import FAMILIES, with_common_names
from kd_dist.model_files.encoder_weights import encoder_shapes, fit

SIZES = {
    "vocab_size": 50,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
BERT = {"model_type": "bert", "type_vocab_size": 2, **SIZES}
WANTED = encoder_shapes(BERT)


def renamed(front: str) -> dict[str, tuple[int, ...]]:
    return {front + name: shape for name, shape in WANTED.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_is_transformers_own(family: str):
    own: dict[str, Any] = {"embedding_size": 8} if family in ("albert", "electra") else {}
    config = AutoConfig.for_model(family, **SIZES, **own)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    real = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    content = with_common_names(config.to_dict())
    wanted = encoder_shapes(content)
    optional = ("pooler.", "embeddings_project.", "embeddings.task_type_embeddings.")
    assert wanted == {name: shape for name, shape in real.items() if not name.startswith(optional)}
    assert fit(real, content, "folder").problem is None


@pytest.mark.parametrize(
    ("front", "prefix"),
    [("", ""), ("bert.", ""), ("module.", "module."), ("module.bert.", "module."), ("model.", "model.")]
    + [("bert.bert.", "bert."), ("_orig_mod.module.bert.", "_orig_mod.module."), ("encoder.bert.", "encoder.")],
)
def test_a_prefix_that_fits_as_a_whole(front: str, prefix: str):
    found = fit(renamed(front) | {"classifier.weight": (2, 16)}, BERT, "folder")
    assert (found.prefix, found.problem) == (prefix, None)


def test_layer_norms_of_old():
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): shape
        for name, shape in renamed("bert.").items()
    }
    assert fit(old, BERT, "folder").problem is None


def test_missing_tensors_are_counted_and_three_are_named():
    found = {name: shape for name, shape in renamed("bert.").items() if "layer.2" not in name}
    problem = fit(found, BERT, "folder").problem
    assert problem is not None
    assert f"lack 16 of the {len(WANTED)} tensors" in problem
    assert problem.count("encoder.layer.2.") == 3


def test_a_prefix_before_some_of_the_tensors_is_refused():
    mixed = {("module." if index % 2 else "") + name: shape for index, (name, shape) in enumerate(WANTED.items())}
    assert "would stay random" in (fit(mixed, BERT, "folder").problem or "")


@pytest.mark.parametrize("name", ["h.0.attn.c_attn.weight", "bert.encoder.layers.0.self_attn.q_proj.weight"])
def test_names_of_another_framework(name: str):
    assert name in (fit({name: (16, 16)}, BERT, "folder").problem or "")


def test_other_shapes_are_named():
    problem = fit(WANTED, BERT | {"vocab_size": 60, "intermediate_size": 32}, "folder").problem
    assert problem is not None
    assert "embeddings.word_embeddings.weight [50, 16], not [60, 16]" in problem
    assert problem.startswith("10 tensors")


def test_two_encoders_in_one_file():
    assert "several encoders (teacher., student.)" in (
        fit(renamed("teacher.") | renamed("student."), BERT, "folder").problem or ""
    )


def test_positions_of_another_family():
    config = {"model_type": "roberta", **BERT} | {"model_type": "roberta"}
    assert '"model_type": "bert"' in (fit(renamed("bert."), config, "folder").problem or "")
    assert fit(renamed("roberta."), config, "folder").problem is None


def test_an_attribute_may_have_another_familys_name():
    """As in `self.roberta = BertModel.from_pretrained("hfl/chinese-roberta-wwm-ext")`, and the reverse."""
    assert fit(renamed("roberta."), BERT, "folder").problem is None
    roberta = BERT | {"model_type": "roberta", "type_vocab_size": 1}
    tensors = {f"bert.{name}": shape for name, shape in encoder_shapes(roberta).items()}
    assert fit(tensors, roberta, "folder").problem is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type=relative_key, which transformers 5"),
        ({"num_hidden_layers": None}, "folder/config.json does not give num_hidden_layers"),
    ],
)
def test_configurations_of_other_models(changes: dict[str, Any], message: str):
    assert message in str(fit(renamed(""), BERT | changes, "folder").problem)
    assert fit(renamed(""), BERT | {"position_embedding_type": "absolute"}, "folder").problem is None
