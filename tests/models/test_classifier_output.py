"""Outputs are tensors on the CPU, as the README in exports uses them; only early exit has layers."""

from pathlib import Path

import torch

from kd_dist.models.classifier import Classifier, predict
from kd_dist.models.classifier_output import ClassifierOutput
from tests.models.random_models import LENGTHS, cut, random_fastbert, random_inputs


def test_no_rows_have_outputs_of_no_rows() -> None:
    model = random_fastbert()
    classifier = Classifier(Path(), model, None, "single_label", list("abcde"), 48, model.exit_rule(0.5))
    found = predict(classifier, [])
    assert found.logits_NC.shape == (0, 5)
    assert found.layers_N.shape == (0,)


def test_a_model_without_early_exit_has_no_layers() -> None:
    assert ClassifierOutput(torch.zeros(2, 3)).layers_N is None


def test_outputs_are_used_as_exports_say() -> None:
    model = random_fastbert()
    output = model.classify(cut(random_inputs(LENGTHS), 8, 8), model.exit_rule(speed=0.5))
    assert output.logits_NC.argmax(dim=1).shape == (16,)
    assert output.layers_N.dtype == torch.long
    assert output.logits_NC.device.type == output.layers_N.device.type == "cpu"
