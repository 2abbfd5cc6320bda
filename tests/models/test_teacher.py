"""A teacher computes what is wanted of it and nothing more, without gradients, in the data's order of labels."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from kd_dist.config.families import ALL_FAMILIES
from kd_dist.errors import UserError
from kd_dist.models.attention import capture_attention
from kd_dist.models.teacher import Teacher, Wanted, encode
from tests.conftest import LabelledWorld, TinyWorld
from tests.models.random_models import random_classifier, random_inputs

CPU = torch.device("cpu")
LAYERS = Wanted(frozenset({0, 2}), frozenset({1}))


def test_only_the_layers_that_are_wanted_are_loaded(tiny: TinyWorld) -> None:
    teacher = Teacher(str(tiny.teacher), LAYERS, precision="fp32", device=CPU)
    assert teacher.model.config.num_hidden_layers == 2
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_states_and_attention_are_those_of_the_whole_model(tiny: TinyWorld) -> None:
    batch = random_inputs([9, 4])
    found = Teacher(str(tiny.teacher), LAYERS, precision="fp32", device=CPU)(batch)
    with torch.no_grad():
        states = AutoModel.from_pretrained(tiny.teacher).eval()(**batch, output_hidden_states=True).hidden_states
    assert set(found.hidden_states) == {0, 2}
    valid_BS = batch["attention_mask"].bool()
    for layer, state_BSD in found.hidden_states.items():
        torch.testing.assert_close(state_BSD[valid_BS], states[layer][valid_BS])
        assert not state_BSD.requires_grad
    assert set(found.attention) == {1}
    assert found.attention[1].query_BHSK.shape == (2, 4, 9, 8)
    assert found.logits is None


@pytest.mark.parametrize("kind", ALL_FAMILIES)
def test_states_of_every_family_stand_where_the_tokens_of_the_batch_do(kind: str, tmp_path: Path) -> None:
    whole = random_classifier(kind)
    whole.save_pretrained(tmp_path)
    teacher = Teacher(str(tmp_path), Wanted(frozenset({0, 2})), precision="fp32", device=CPU)
    batch = random_inputs([9, 4], padding=whole.config.pad_token_id)
    found = teacher(batch).hidden_states
    for row, length in enumerate([9, 4]):
        alone = {name: tensor[row : row + 1, :length] for name, tensor in batch.items()}
        with torch.no_grad():
            states = whole(**alone, output_hidden_states=True).hidden_states
        for layer in (0, 2):
            torch.testing.assert_close(found[layer][row : row + 1, :length], states[layer], atol=1e-4, rtol=1e-4)


def test_logits_come_in_the_order_of_the_data(labelled: LabelledWorld) -> None:
    batch, wanted = random_inputs([9, 4]), Wanted(logits=True)
    settings = {"precision": "fp32", "device": CPU}
    own = Teacher(str(labelled.teacher), wanted, **settings)(batch).logits
    turned = Teacher(str(labelled.teacher), wanted, **settings, label2id={"sport": 0, "finance": 1})(batch).logits
    assert own is not None
    assert turned is not None
    with torch.no_grad():
        model = AutoModelForSequenceClassification.from_pretrained(labelled.teacher).eval()
        torch.testing.assert_close(own, model(**batch).logits)
    torch.testing.assert_close(turned, own.flip(1))
    with pytest.raises(UserError, match="does not know 'travel'"):
        Teacher(str(labelled.teacher), wanted, **settings, label2id={"sport": 0, "travel": 1})


def test_half_precision_is_bfloat16(tiny: TinyWorld) -> None:
    teacher = Teacher(str(tiny.teacher), LAYERS, precision="bf16", device=CPU)
    assert next(teacher.model.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ALL_FAMILIES)
def test_every_family_answers_nearly_the_same_in_bf16(kind: str, tmp_path: Path) -> None:
    random_classifier(kind).save_pretrained(tmp_path)
    batch, wanted = random_inputs([9, 4]), Wanted(logits=True)
    exact, low = (Teacher(str(tmp_path), wanted, precision=name, device=CPU)(batch).logits for name in ("fp32", "bf16"))
    assert exact is not None
    assert low is not None
    assert low.dtype == torch.float32
    assert 0 < (low - exact).norm() < 0.05 * exact.norm()


def test_the_last_layer_that_is_needed() -> None:
    assert (LAYERS.last_layer(), Wanted().last_layer(), Wanted(attention=frozenset({5})).last_layer()) == (2, 0, 5)


def test_a_student_keeps_its_gradients() -> None:
    model = random_classifier("bert").base_model
    capture_attention(model)
    found = encode(model, random_inputs([5]), LAYERS)
    assert found.hidden_states[2].requires_grad
    assert found.attention[1].key_BHSK.requires_grad
