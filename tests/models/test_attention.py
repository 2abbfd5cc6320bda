"""Captured queries and keys are the model's own, and capturing them changes nothing else."""

import gc
import weakref

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from kd_dist.errors import UserError
from kd_dist.models.attention import SUPPORTED_FAMILIES, Attention, _Recorder, capture_attention, run_with_attention

NUM_LAYERS = 4
COMMON = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
    "initializer_range": 0.5,  # large scores: an attention that ignores the mask is then far off
}
EXTRA = {
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
    "distilbert": {
        "dim": 24,
        "hidden_dim": 32,
        "n_layers": NUM_LAYERS,
        "n_heads": 2,
        "attention_dropout": 0.0,
        "dropout": 0.1,
    },
}
FAMILIES = sorted(SUPPORTED_FAMILIES)


def config_of(family: str):
    extra = EXTRA.get(family, {})
    common = COMMON if family != "distilbert" else {k: COMMON[k] for k in ("vocab_size", "max_position_embeddings")}
    return AutoConfig.for_model(family, **common, **extra)


def build(family: str, attention: str = "sdpa") -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config_of(family), attn_implementation=attention).eval()


def inputs(lengths: tuple[int, ...] = (12, 7, 3)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask_BS = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids_BS = torch.randint(3, 50, mask_BS.shape, generator=generator) * mask_BS
    return {"input_ids": ids_BS, "attention_mask": mask_BS}


def scores(attention: Attention) -> torch.Tensor:
    return attention.query_BHSK @ attention.key_BHSK.mT * attention.scaling


@pytest.mark.parametrize("lengths", [(12, 7, 3), (9, 9)], ids=["padded", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_unchanged(family, lengths):
    expected = build(family)(**inputs(lengths), output_hidden_states=True)
    model = build(family)
    capture_attention(model)
    plain = model(**inputs(lengths), output_hidden_states=True)
    outputs, _ = run_with_attention(model, {2}, **inputs(lengths), output_hidden_states=True)
    for got in (plain, outputs):
        assert torch.equal(got.logits, expected.logits)
        assert all(map(torch.equal, got.hidden_states, expected.hidden_states))


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_is_not_attended(family):
    model = build(family)
    capture_attention(model)
    padded = model(**inputs((12, 7))).logits[1]
    alone = model(**{name: tensor[1:2, :7] for name, tensor in inputs((12, 7)).items()}).logits[0]
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_eager_attention(family):
    model = build(family)
    capture_attention(model)
    batch = inputs()
    _, captured = run_with_attention(model, range(1, NUM_LAYERS + 1), **batch)
    eager = build(family, "eager")(**batch, output_attentions=True)
    assert len(eager.attentions) == NUM_LAYERS
    bias_B11S = torch.zeros(batch["attention_mask"].shape).masked_fill(batch["attention_mask"] == 0, -torch.inf)
    for layer, probabilities_BHSS in enumerate(eager.attentions, start=1):
        from_scores_BHSS = (scores(captured[layer]) + bias_B11S[:, None, None]).softmax(-1)
        torch.testing.assert_close(from_scores_BHSS, probabilities_BHSS, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_scores_equal_eager_presoftmax_scores(monkeypatch):
    """The softmax hides a constant per query; here the very scores that eager attention feeds to it are compared."""
    seen = []
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, **kw: (seen.append(x), softmax(x, **kw))[1])
    for family in FAMILIES:
        seen.clear()
        batch = {name: tensor[:1] for name, tensor in inputs().items()}  # no padding: the mask adds 0
        build(family, "eager")(**batch)
        model = build(family)
        capture_attention(model)
        _, captured = run_with_attention(model, range(1, NUM_LAYERS + 1), **batch)
        assert len(seen) == NUM_LAYERS
        for layer, eager_BHSS in enumerate(seen, start=1):
            torch.testing.assert_close(scores(captured[layer]), eager_BHSS, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_fused_attention_in_train_mode(family):
    """No S x S path for a student without attention dropout: the math backend is not even allowed."""
    model = build(family).train()
    capture_attention(model)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        outputs, captured = run_with_attention(model, {1}, **inputs())
        (outputs.logits.sum() + captured[1].query_BHSK.sum()).backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.base_model.parameters())


class FusedTypes(TorchDispatchMode):
    """Keep the types that fused attention computes in, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "flash_attention" in str(function):
            self.types.add(args[0].dtype)
        return function(*args, **(kwargs or {}))


def gradient(model: PreTrainedModel, low: bool) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        model(**inputs()).logits.float().sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_that_learns_in_bf16_on_a_cpu_is_computed_in_fp32(family, monkeypatch):
    monkeypatch.setitem(COMMON, "initializer_range", 0.05)  # large scores would be wrong in bf16 anyway
    model = build(family)
    capture_attention(model)
    with FusedTypes() as learning:
        fast = gradient(model, low=True)
    with FusedTypes() as frozen, torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(**inputs())
    assert (learning.types, frozen.types) == ({torch.float32}, {torch.bfloat16})
    exact = gradient(build(family), low=False)
    assert 0 < (fast - exact).norm() < 0.02 * exact.norm()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_fused_test_can_fail():
    config = config_of("bert")
    config.attention_probs_dropout_prob = 0.1
    model = AutoModelForSequenceClassification.from_config(config).train()
    capture_attention(model)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]), pytest.raises(RuntimeError, match="No available kernel"):
        model(**inputs())


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_only_wanted_layers_are_kept(family, monkeypatch):
    handed_out = []
    record = _Recorder.record

    def spy(self, attention):
        handed_out.append(weakref.ref(attention.query_BHSK))
        record(self, attention)

    monkeypatch.setattr(_Recorder, "record", spy)
    model = build(family)
    capture_attention(model)
    with torch.no_grad():
        outputs, captured = run_with_attention(model, {2, 4}, **inputs())
    assert sorted(captured) == [2, 4]
    assert outputs.logits.shape == (3, 2)
    assert [query() is not None for query in handed_out] == [False, True, False, True]


def test_layers_differ_where_one_module_is_shared():
    model = build("albert")
    capture_attention(model)
    _, captured = run_with_attention(model, [1, 2], **inputs())
    assert not torch.equal(captured[1].query_BHSK, captured[2].query_BHSK)


def gradients_with_attention_loss(model: PreTrainedModel):
    model.zero_grad()
    torch.manual_seed(3)
    outputs, captured = run_with_attention(model, {1, 3}, **inputs())
    loss = outputs.logits.square().sum() + sum(scores(attention).square().sum() for attention in captured.values())
    before = {layer: attention.query_BHSK.detach().clone() for layer, attention in captured.items()}
    loss.backward()
    assert sorted(captured) == [1, 3]
    assert all(torch.equal(before[layer], captured[layer].query_BHSK) for layer in captured)
    return loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_activation_checkpointing(family):
    model = build(family).train()
    capture_attention(model)
    loss, gradients = gradients_with_attention_loss(model)
    model.activation_checkpointing_enable()
    loss_again, gradients_again = gradients_with_attention_loss(model)
    assert torch.equal(loss, loss_again)
    torch.testing.assert_close(gradients, gradients_again)


def test_activation_checkpointing_frees_a_graph_that_is_never_used():
    model = build("bert").train()
    capture_attention(model)
    model.activation_checkpointing_enable()
    _, captured = run_with_attention(model, {2}, **inputs())
    query = weakref.ref(captured[2].query_BHSK)
    del captured, _
    gc.collect()
    assert query() is None


def test_reentrant_checkpointing_is_refused():
    model = build("bert").train()
    capture_attention(model)
    model.activation_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(ValueError, match="use_reentrant=False"):
        run_with_attention(model, {1}, **inputs())


def test_models_from_one_config_are_independent():
    config = config_of("bert")
    first = AutoModelForSequenceClassification.from_config(config)
    second = AutoModelForSequenceClassification.from_config(config)
    capture_attention(first)
    with pytest.raises(ValueError, match="capture_attention"):
        run_with_attention(second, {1}, **inputs())
    second.set_attn_implementation("eager")
    run_with_attention(first, {1}, **inputs())


def test_no_module_keeps_the_old_config():
    model = build("bert")
    old = model.config
    capture_attention(model)
    capture_attention(model)
    assert all(getattr(module, "config", None) is not old for module in model.modules())
    assert "kd_dist" not in model.config.to_json_string()  # an exported model names no function of ours


def test_compiles_without_graph_breaks():
    model = build("albert")
    capture_attention(model)
    expected, captured = run_with_attention(model, {3}, **inputs())
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    outputs, captured_again = run_with_attention(compiled, {3}, **inputs())
    torch.testing.assert_close(outputs.logits, expected.logits)
    torch.testing.assert_close(captured_again[3].key_BHSK, captured[3].key_BHSK)


def test_errors():
    model = build("bert")
    capture_attention(model)
    with pytest.raises(ValueError, match=r"No attention layers \[0, 5\]: the model has the layers 1 to 4"):
        run_with_attention(model, {0, 1, 5}, **inputs())
    roformer = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("roformer", **COMMON))
    with pytest.raises(UserError, match="'roformer': expected one of albert"):
        capture_attention(roformer)
