"""A model gets what it takes, padded on its side: every row of a batch is classified as it would be alone."""

import pytest
import torch

from kd_dist.config.families import ALL_FAMILIES
from kd_dist.models.inputs import model_inputs
from tests.models.random_models import Batch, random_classifier, random_inputs

LENGTHS = [12, 7, 12, 3, 1]


def batch_for(kind: str, padding: int) -> Batch:
    """Rows with two segments, and a third at their end as XLNet's have."""
    batch = random_inputs(LENGTHS, padding)
    places_S = torch.arange(max(LENGTHS))
    types_BS = (places_S > 3).long().repeat(len(LENGTHS), 1)
    if kind == "xlnet":
        types_BS[range(len(LENGTHS)), [length - 1 for length in LENGTHS]] = 2
    return batch | {"token_type_ids": types_BS * batch["attention_mask"]}


@pytest.mark.parametrize("kind", ALL_FAMILIES)
@torch.no_grad()
def test_a_row_in_a_batch_is_what_it_is_alone(kind: str) -> None:
    model = random_classifier(kind)
    batch = batch_for(kind, model.config.pad_token_id)
    together = model(**model_inputs(model, batch)).logits
    for row, length in enumerate(LENGTHS):
        alone = {name: tensor[row : row + 1, :length] for name, tensor in batch.items()}
        torch.testing.assert_close(together[row : row + 1], model(**alone_inputs(model, alone)).logits, msg=f"{row}")


def alone_inputs(model: torch.nn.Module, row: Batch) -> Batch:
    """A row without padding is the same whatever the side."""
    found = model_inputs(model, row)
    assert all(torch.equal(tensor, row[name]) for name, tensor in found.items())
    return found


@torch.no_grad()
def test_one_batch_leaves_nothing_to_the_next() -> None:
    """XLNet returns memories, which a later call could be given."""
    model = random_classifier("xlnet", use_mems_eval=True, mem_len=8)
    first, second = random_inputs([9, 4], seed=1), random_inputs([9, 4], seed=2)
    before = model(**model_inputs(model, second)).logits
    assert model(**model_inputs(model, first)).mems is not None
    torch.testing.assert_close(model(**model_inputs(model, second)).logits, before)


def test_padding_moves_to_the_left_with_all_that_belongs_to_a_row() -> None:
    model = random_classifier("xlnet")
    batch = {
        "input_ids": torch.tensor([[5, 6, 7, 0], [8, 9, 0, 0], [5, 6, 7, 8]]),
        "token_type_ids": torch.tensor([[0, 0, 2, 0], [0, 2, 0, 0], [0, 0, 0, 2]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]),
        "labels": torch.tensor([0, 1, 2]),
    }
    found = model_inputs(model, batch)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "input_ids": [[0, 5, 6, 7], [0, 0, 8, 9], [5, 6, 7, 8]],
        "token_type_ids": [[0, 0, 0, 2], [0, 0, 0, 2], [0, 0, 0, 2]],
        "attention_mask": [[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]],
    }
    assert model_inputs(random_classifier("bert"), batch)["input_ids"] is batch["input_ids"]


@pytest.mark.parametrize(("kind", "has_types"), [("bert", True), ("roberta", False), ("distilbert", False)])
def test_token_types_are_kept_only_for_models_that_have_several(kind: str, has_types: bool) -> None:
    model, batch = random_classifier(kind, type_vocab_size=2 if has_types else 1), random_inputs([5])
    batch |= {"token_type_ids": torch.zeros_like(batch["input_ids"]), "labels": torch.zeros(1)}
    names = {"input_ids", "attention_mask"} | ({"token_type_ids"} if has_types else set())
    assert set(model_inputs(model, batch)) == names
