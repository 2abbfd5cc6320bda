"""Early exit gives each row the logits it would get alone, and does no more work than it has to."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from kd_dist.config.families import FAMILIES
from kd_dist.data.preprocessing import Encoding
from kd_dist.errors import UserError
from kd_dist.models.classifier import Classifier, predict
from kd_dist.models.classifier_output import ClassifierOutput
from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.models.exit_rules import ExitRule
from kd_dist.models.uncertainty import predicted_classes, uncertainty
from tests.models.random_models import (
    LENGTHS,
    MULTI_LABEL,
    NUM_LAYERS,
    Batch,
    cut,
    random_classifier,
    random_fastbert,
    random_inputs,
)

MEASURES: list[Any] = ["entropy", "top_k_entropy", "margin"]


def rows_alone(batches: list[Batch]) -> list[Batch]:
    """Each row without padding."""
    return [
        {name: tensor[row : row + 1, : int(batch["attention_mask"][row].sum())] for name, tensor in batch.items()}
        for batch in batches
        for row in range(len(batch["input_ids"]))
    ]


@torch.no_grad()
def one_by_one(model: Any, batches: list[Batch], rule: ExitRule) -> ClassifierOutput:
    """The rule in words: a row leaves at the first layer that is sure, or where `patience` layers have agreed."""
    logits, layers = [], []
    for row in rows_alone(batches):
        *early, last = model.all_logits(row)
        said: list[Any] = []
        layers.append(NUM_LAYERS)
        logits.append(last)
        for layer, own_1C in enumerate(early, start=1):
            said.append(predicted_classes(own_1C, model.task).tolist())
            sure = float(uncertainty(own_1C, model.task, rule.measure, rule.top_k)) < rule.thresholds[layer - 1]
            latest = said[-rule.patience :] if rule.patience else []
            if sure or (rule.patience and len(latest) == rule.patience and all(one == latest[0] for one in latest)):
                layers[-1], logits[-1] = layer, own_1C
                break
    return ClassifierOutput(torch.cat(logits), torch.tensor(layers))


def count_rows(modules: Any) -> list[int]:
    """Filled in, while a model runs, with the rows of every call of every module; 0 for one that is not called."""
    counts = [0] * len(modules)

    def count(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            counts[index] += len(arguments[0])

        return hook

    for index, module in enumerate(modules):
        module.register_forward_hook(count(index))
    return counts


def rule_at(model: Any, batches: list[Batch], quantile: float, measure: Any) -> ExitRule:
    """A rule by which about that share of the rows is sure at each layer, halfway between two of them."""
    thresholds = []
    with torch.no_grad():
        alone = torch.cat([model.all_logits(row) for row in rows_alone(batches)], dim=1)
    for logits_NC in alone[:-1]:
        uncertainty_N = uncertainty(logits_NC, model.task, measure, 3).sort().values
        place = int(quantile * (len(uncertainty_N) - 1))
        thresholds.append(float(uncertainty_N[place : place + 2].mean()))
    return ExitRule(tuple(thresholds), measure, top_k=3)


@pytest.mark.parametrize("problem_type", [None, MULTI_LABEL])
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("sizes", [(16,), (4, 4, 4, 4), (7, 7, 2), (1,) * 16])
def test_batches_side_by_side_answer_as_each_row_alone(
    sizes: tuple[int, ...], measure: Any, problem_type: str | None
) -> None:
    model, batches = random_fastbert(problem_type=problem_type), cut(random_inputs(LENGTHS), *sizes)
    rule = rule_at(model, batches, 0.4, measure)
    found, expected = model.classify(batches, rule), one_by_one(model, batches, rule)
    assert found.layers_N.tolist() == expected.layers_N.tolist()
    assert len(set(found.layers_N.tolist())) >= 3
    torch.testing.assert_close(found.logits_NC, expected.logits_NC, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("problem_type", [None, MULTI_LABEL])
@pytest.mark.parametrize("patience", [1, 2, 3, 4])
def test_patience_leaves_when_so_many_layers_in_a_row_agree(patience: int, problem_type: str | None) -> None:
    model, batches = random_fastbert(problem_type=problem_type), cut(random_inputs(LENGTHS), 5, 5, 6)
    rule = model.exit_rule(patience=patience)
    found, expected = model.classify(batches, rule), one_by_one(model, batches, rule)
    assert found.layers_N.tolist() == expected.layers_N.tolist()
    assert set(found.layers_N.tolist()) <= set(range(min(patience, NUM_LAYERS), NUM_LAYERS + 1))
    torch.testing.assert_close(found.logits_NC, expected.logits_NC, atol=1e-5, rtol=1e-4)


def test_patience_and_speed_together_leave_by_whichever_comes_first() -> None:
    model, batches = random_fastbert(), cut(random_inputs(LENGTHS), 8, 8)
    both = replace(rule_at(model, batches, 0.4, "entropy"), patience=2)
    found = model.classify(batches, both)
    assert found.layers_N.tolist() == one_by_one(model, batches, both).layers_N.tolist()
    alone = [
        model.classify(batches, rule).layers_N for rule in (replace(both, patience=None), model.exit_rule(None, 2))
    ]
    assert torch.equal(found.layers_N, torch.minimum(*alone))


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_can_leave_early(kind: str) -> None:
    model = random_fastbert(kind)
    inputs = random_inputs(LENGTHS, padding=model.backbone.config.pad_token_id)
    batches = cut(inputs, 6, 6, 4)
    rule = rule_at(model, batches, 0.4, "entropy")
    found, expected = model.classify(batches, rule), one_by_one(model, batches, rule)
    assert found.layers_N.tolist() == expected.layers_N.tolist()
    torch.testing.assert_close(found.logits_NC, expected.logits_NC, atol=1e-5, rtol=1e-4)


def test_at_speed_0_it_is_the_plain_model_and_no_branch_is_computed() -> None:
    model, batches = random_fastbert(), cut(random_inputs(LENGTHS), 8, 8)
    calls = count_rows(model.branches)
    found = model.classify(batches, model.exit_rule(speed=0.0))
    assert calls == [0, 0, 0]
    assert set(found.layers_N.tolist()) == {NUM_LAYERS}
    with torch.no_grad():
        plain = torch.cat([model.backbone(**batch).logits for batch in batches])
        assert torch.equal(torch.cat([model(**batch).logits for batch in batches]), plain)
        assert torch.equal(torch.cat([model.all_logits(batch)[-1] for batch in batches]), found.logits_NC)
    torch.testing.assert_close(found.logits_NC, plain, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("problem_type", [None, MULTI_LABEL])
def test_at_speed_1_all_leave_at_the_first_layer_even_without_any_idea(measure: Any, problem_type: str | None) -> None:
    model, batches = random_fastbert(problem_type=problem_type, uncertainty=measure), cut(random_inputs(LENGTHS), 8, 8)
    nn.init.zeros_(model.branches[0].classifier.weight)
    nn.init.zeros_(model.branches[0].classifier.bias)  # an uncertainty of exactly 1
    entered = count_rows(model.layers.layers)
    assert set(model.classify(batches, model.exit_rule(speed=1.0)).layers_N.tolist()) == {1}
    assert entered == [16, 0, 0, 0]


def test_rows_that_exited_are_not_computed_any_more_and_the_rest_are_regrouped() -> None:
    model, batches = random_fastbert(), cut(random_inputs(LENGTHS), 4, 4, 4, 4)
    rule = rule_at(model, batches, 0.2, "entropy")
    layers_N = one_by_one(model, batches, rule).layers_N
    entered, asked = count_rows(model.layers.layers), count_rows(model.branches)
    shapes: list[tuple[int, int]] = []
    model.layers.layers[-1].register_forward_hook(lambda _, given, __: shapes.append(tuple(given[0].shape[:2])))
    model.classify(batches, rule)
    staying = [int((layers_N >= layer).sum()) for layer in range(1, NUM_LAYERS + 1)]
    assert staying[0] > staying[1] > staying[2] > staying[3] > 4
    assert entered == staying
    assert asked == staying[:-1]
    longest = [length for length, layer in zip(LENGTHS, layers_N, strict=True) if layer == NUM_LAYERS]
    full = [(len(longest[start : start + 4]), longest[start]) for start in range(0, len(longest), 4)]
    assert shapes == full  # groups of four again, no wider than their longest row


def test_each_layer_has_a_threshold_of_its_own_and_0_is_not_computed() -> None:
    model, batches = random_fastbert(), cut(random_inputs(LENGTHS), 8, 8)
    asked = count_rows(model.branches)
    found = model.classify(batches, ExitRule((0.0, 1.0, 0.0), "entropy", 5))
    assert set(found.layers_N.tolist()) == {2}
    assert asked == [0, 16, 0]


@pytest.mark.parametrize("patience", [None, 1])
def test_the_last_layer_answers_where_branches_are_broken(patience: int | None) -> None:
    model, batches = random_fastbert(), cut(random_inputs(LENGTHS), 8, 8)
    for branch in model.branches:
        nn.init.constant_(branch.classifier.bias, float("nan"))
    found = model.classify(batches, model.exit_rule(speed=1.0, patience=patience))
    assert set(found.layers_N.tolist()) == {NUM_LAYERS}
    assert found.logits_NC.isfinite().all()


def test_token_types_reach_the_encoder() -> None:
    model, (batch,) = random_fastbert(), cut(random_inputs(LENGTHS), 16)
    typed = batch | {"token_type_ids": (torch.arange(12) > 1).long().expand(16, -1) * batch["attention_mask"]}
    last_alone = ExitRule((1e-9, 0.0, 0.0), "entropy", 5)  # asks a branch, and yet nobody leaves
    with torch.no_grad():
        expected = model.backbone(**typed).logits
    torch.testing.assert_close(model.classify([typed], last_alone).logits_NC, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model.classify([batch], last_alone).logits_NC, expected, atol=1e-2)


def test_more_rows_than_go_side_by_side_answer_as_each_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_dist.models.classifier.TOKENS_SIDE_BY_SIDE", 40)
    model, inputs = random_fastbert(), random_inputs(LENGTHS)
    rule = rule_at(model, cut(inputs, 16), 0.4, "entropy")
    classifier = Classifier(Path(), model, SimpleNamespace(pad_token_id=0), "single_label", list("abcde"), 48, rule)
    rows = [
        Encoding(ids[:length].tolist(), None, False) for ids, length in zip(inputs["input_ids"], LENGTHS, strict=True)
    ]
    shuffled = np.random.default_rng(1).permutation(16)
    found = predict(classifier, [rows[number] for number in shuffled], batch_size=3)
    expected = one_by_one(model, cut(inputs, 16), rule)
    assert found.layers_N.tolist() == expected.layers_N[shuffled].tolist()
    torch.testing.assert_close(found.logits_NC, expected.logits_NC[shuffled], atol=1e-5, rtol=1e-4)


def test_a_branch_without_a_mask_is_asked_too() -> None:
    """Rows of one length have no padding that it could see."""
    model, batches = random_fastbert(branch_mask=False), cut(random_inputs([9] * 6), 4, 2)
    rule = rule_at(model, batches, 0.4, "entropy")
    found, expected = model.classify(batches, rule), one_by_one(model, batches, rule)
    assert found.layers_N.tolist() == expected.layers_N.tolist()
    torch.testing.assert_close(found.logits_NC, expected.logits_NC, atol=1e-5, rtol=1e-4)


def test_the_rule_is_that_of_the_configuration_unless_asked_otherwise() -> None:
    model = random_fastbert(thresholds=[0.1, 0.2, 0.3], patience=2, uncertainty="margin", top_k=3)
    assert model.exit_rule() == ExitRule((0.1, 0.2, 0.3), "margin", 3, 2)
    assert model.exit_rule(speed=0.5) == ExitRule((0.5, 0.5, 0.5), "margin", 3, None)
    assert model.exit_rule(patience=1) == ExitRule((0.0, 0.0, 0.0), "margin", 3, 1)
    assert random_fastbert().exit_rule() == ExitRule((0.0, 0.0, 0.0), "entropy", 5, None)


def test_there_is_a_threshold_for_every_branch() -> None:
    with pytest.raises(UserError, match="holds 2 thresholds for 3 branches"):
        random_fastbert(thresholds=[0.1, 0.2]).exit_rule()


def test_it_can_be_called_as_any_classifier_of_transformers() -> None:
    model, (batch,) = random_fastbert(), cut(random_inputs(LENGTHS), 16)
    called = model(**batch, labels=torch.zeros(16, dtype=torch.long), output_hidden_states=True)
    torch.testing.assert_close(called.loss, torch.nn.functional.cross_entropy(called.logits, torch.zeros(16).long()))
    assert len(called.hidden_states) == NUM_LAYERS + 1


def test_the_backbone_has_the_attention_that_was_asked_for(tmp_path: Path) -> None:
    model, (batch,) = random_fastbert(), cut(random_inputs(LENGTHS), 16)
    model.save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager")
    assert plain.backbone.config._attn_implementation == "eager"
    with torch.no_grad():
        torch.testing.assert_close(plain.all_logits(batch), model.all_logits(batch), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_trained_head_is_the_one_that_is_kept(kind: str) -> None:
    classifier = random_classifier(kind, seed=5)
    inputs = random_inputs([7, 5, 1], padding=classifier.config.pad_token_id)
    model = FastBertForSequenceClassification.from_classifier(classifier, branch_width=8)
    with torch.no_grad():
        torch.testing.assert_close(model.all_logits(inputs)[-1], classifier(**inputs).logits)
    assert {name: value.tolist() for name, value in model.backbone.state_dict().items()} == {
        name: value.tolist() for name, value in classifier.state_dict().items()
    }


@pytest.mark.parametrize("kind", FAMILIES)
def test_it_is_the_same_after_saving_and_loading(kind: str, tmp_path: Path) -> None:
    model = random_fastbert(kind, MULTI_LABEL, thresholds=[0.1, 0.2, 0.3], branch_activation="none")
    model.config.id2label = {number: f"类{number}" for number in range(5)}
    model.config.label2id = {name: number for number, name in model.config.id2label.items()}
    model.save_pretrained(tmp_path)
    loaded, found = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert not loaded.training
    assert loaded.config.id2label == loaded.backbone.config.id2label == model.config.id2label
    assert (loaded.task, loaded.exit_rule()) == ("multi_label", model.exit_rule())
    inputs = random_inputs([7, 5, 1], padding=loaded.backbone.config.pad_token_id)
    with torch.no_grad():
        assert torch.equal(loaded.all_logits(inputs), model.all_logits(inputs))


def test_a_backbone_that_is_not_trained_stays_in_eval_mode() -> None:
    model = random_fastbert().train()
    assert model.training
    assert all(branch.training for branch in model.branches)
    assert not any(module.training for module in model.backbone.modules())
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    model.freeze_backbone(False)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.eval().modules())
