"""Permutation language modelling predicts each token from what comes before it in a random order, and nothing else."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from transformers import XLNetLMHeadModel

from kd_dist.config.objectives.permutation import PermutationObjective
from kd_dist.objectives.permutation import CONTEXT, PermutationLanguageModel, positions
from tests.models.random_models import VOCABULARY, random_config, random_inputs

LENGTHS = [12, 7, 3]


@pytest.fixture
def method() -> PermutationLanguageModel:
    torch.manual_seed(0)
    return method_of(PermutationObjective(predicted_share=0.4, max_span=3))


def method_of(settings: PermutationObjective) -> PermutationLanguageModel:
    tokenizer = SimpleNamespace(all_special_ids=[0, 1, 2, 3, 4])
    return PermutationLanguageModel(XLNetLMHeadModel(random_config("xlnet")), settings, tokenizer).eval()


def prepared(method: PermutationLanguageModel) -> dict[str, Tensor]:
    batch = random_inputs(LENGTHS)
    for row, length in enumerate(LENGTHS):
        batch["input_ids"][row, length - 1] = 3  # a special token, which is never predicted
    return method.prepare(batch, seed=1)


def test_the_order_is_decided_by_the_seed_and_spares_special_tokens(method: PermutationLanguageModel) -> None:
    batch = random_inputs(LENGTHS)
    first, again, other = (method.prepare(batch, seed)["order"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (prepared(method)["order"][batch["attention_mask"] == 0] == CONTEXT).all()
    assert (prepared(method)["order"][[0, 1, 2], [11, 6, 2]] == CONTEXT).all()


@torch.no_grad()
def test_the_loss_is_that_of_tokens_one_by_one(method: PermutationLanguageModel) -> None:
    """Every predicted token alone, from a row in which all that it must not see is another token."""
    batch = prepared(method)
    order_BS, ids_BS = batch["order"], batch["input_ids"]
    total = torch.zeros(())
    for row, place in (order_BS != CONTEXT).nonzero().tolist():
        unseen_S = order_BS[row] >= order_BS[row, place]
        other_S = torch.where(unseen_S, (ids_BS[row] + 7) % VOCABULARY, ids_BS[row])
        logits = method.student(
            other_S[None],
            attention_mask=batch["attention_mask"][row][None],
            perm_mask=hidden(order_BS[row]),
            target_mapping=nn.functional.one_hot(torch.tensor([[place]]), len(other_S)).float(),
        ).logits[0]
        total += nn.functional.cross_entropy(logits, ids_BS[row, place][None])
    torch.testing.assert_close(method(batch, None).sums["permutation"], total)
    assert method.counts(batch)["permutation"] == (order_BS != CONTEXT).sum() > 3


def hidden(order_S: Tensor) -> Tensor:
    """Which token (first) does not see which (second), said in loops."""
    places = range(len(order_S))
    rows = [[float(order_S[k] != CONTEXT and order_S[k] >= order_S[j]) for k in places] for j in places]
    return torch.tensor(rows)[None]


@torch.no_grad()
def test_padding_changes_nothing(method: PermutationLanguageModel) -> None:
    batch = prepared(method)
    alone = torch.zeros(())
    for row, length in enumerate(LENGTHS):
        part = {name: batch[name][row : row + 1, :length] for name in ("input_ids", "attention_mask", "order")}
        if (part["order"] != CONTEXT).any():
            alone += method(part | positions(part["order"]), None).sums["permutation"]
    torch.testing.assert_close(method(batch, None).sums["permutation"], alone)


def test_a_sixth_of_the_tokens_is_predicted_in_spans_of_at_most_five() -> None:
    method = method_of(PermutationObjective())
    chosen_BS = method._spans(torch.Size((60, 300)), torch.Generator().manual_seed(0))
    assert float(chosen_BS.float().mean()) == pytest.approx(1 / 6, abs=0.01)
    runs = "".join("x" if chosen else " " for chosen in chosen_BS[:, :300].flatten().tolist()).split()
    assert {1, 2, 3, 4, 5} <= {len(run) for run in runs}
    assert max(map(len, runs)) <= 10  # two spans may meet


def test_a_batch_of_short_texts_predicts_something(method: PermutationLanguageModel) -> None:
    batch = random_inputs([1, 1])
    assert all(method.counts(method.prepare(batch, seed))["permutation"] > 0 for seed in range(5))


def test_other_families_have_no_second_stream() -> None:
    assert PermutationObjective().training_problems({"model_type": "xlnet"}) == []
    (problem,) = PermutationObjective().training_problems({"model_type": "bert"})
    assert problem.startswith("is a `bert` model, which has no second stream")
    assert "supported families: xlnet (others: `--job pretrain`)" in problem
