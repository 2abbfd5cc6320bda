"""Recurrent students: padding has no influence, layers are PyTorch's, and exports load without kd_dist."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoModelForSequenceClassification

from kd_dist.errors import UserError
from kd_dist.models.classifier import load_classifier
from kd_dist.models.recurrent import CELLS, RecurrentConfig, RecurrentForSequenceClassification
from tests.conftest import TinyWorld
from tests.models.random_models import LABELS, LENGTHS, random_inputs
from tests.models.recurrent_models import KINDS, SENTENCE, kind_id, random_recurrent, save_recurrent


@pytest.mark.parametrize("kind", KINDS, ids=kind_id)
def test_each_row_alone_gets_the_logits_that_it_gets_among_longer_ones(kind: dict[str, Any]) -> None:
    model, inputs = random_recurrent(**kind), random_inputs(LENGTHS, width=20)
    with torch.inference_mode():
        logits_BC = model(**inputs).logits
        for row, length in enumerate(LENGTHS):
            alone = model(inputs["input_ids"][row : row + 1, :length]).logits[0]
            torch.testing.assert_close(logits_BC[row], alone, atol=1e-6, rtol=1e-5)
    assert logits_BC.std(dim=0).min() > 1e-4  # what is compared depends on the text


def test_what_stands_at_padding_gets_no_gradient() -> None:
    model, inputs = random_recurrent(), random_inputs([4, 9])
    unseen = next(token for token in range(5, 100) if token not in inputs["input_ids"])
    inputs["input_ids"][0, 6] = unseen
    model(**inputs).logits.sum().backward()
    assert model.embeddings.weight.grad is not None
    assert not model.embeddings.weight.grad[unseen].any()
    assert model.embeddings.weight.grad[inputs["input_ids"][0, 3]].any()


def packed(model: RecurrentForSequenceClassification, inputs: dict[str, torch.Tensor]) -> tuple[Any, Any]:
    """Outputs and last states of PyTorch's own layer of both directions, on packed rows."""
    layer, config = model.layers[0], model.config
    whole = CELLS[config.cell](config.embedding_size, config.hidden_size, batch_first=True, bidirectional=True)
    weights = {name: tensor for name, tensor in layer.forwards.state_dict().items()}
    weights |= {f"{name}_reverse": tensor for name, tensor in layer.backwards.state_dict().items()}
    whole.load_state_dict(weights)
    lengths = inputs["attention_mask"].sum(dim=1)
    states = model.norm(model.embeddings(inputs["input_ids"]))
    outputs, last = whole(pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False))
    last = last[0] if config.cell == "lstm" else last
    return pad_packed_sequence(outputs, batch_first=True)[0], torch.cat([last[0], last[1]], dim=1)


@pytest.mark.parametrize("cell", CELLS)
def test_layers_and_last_states_are_those_of_pytorch_on_packed_rows(cell: str) -> None:
    inputs, mask_BS = random_inputs(LENGTHS), random_inputs(LENGTHS)["attention_mask"].bool()
    with torch.inference_mode():
        for pooling in ("mean", "max", "last"):
            model = random_recurrent(cell=cell, pooling=pooling)
            outputs, last = packed(model, inputs)
            mean = outputs.sum(dim=1) / mask_BS.sum(dim=1, keepdim=True)  # 0 at padding
            largest = torch.stack([row[:length].amax(dim=0) for row, length in zip(outputs, LENGTHS, strict=True)])
            pooled = {"mean": mean, "max": largest, "last": last}[pooling]
            torch.testing.assert_close(model(**inputs).logits, model.classifier(pooled), atol=1e-6, rtol=1e-5)


def test_a_sentence_is_the_mean_of_its_words_without_its_end() -> None:
    end = SENTENCE["sep_token_id"]
    model = random_recurrent(**SENTENCE)
    ids = torch.tensor([[7, 8, 9, end], [9, 7, end, 8], [7, 8, 9, 9]])
    with torch.inference_mode():
        logits_BC = model(ids).logits
        mean_1D = model.embeddings.weight[7:10].mean(dim=0, keepdim=True)
        model.embeddings.weight[10] = mean_1D
        torch.testing.assert_close(model(torch.tensor([[10, end]])).logits, logits_BC[:1], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(logits_BC[1], logits_BC[0], atol=1e-6, rtol=1e-5)
        assert (logits_BC[2] - logits_BC[0]).abs().max() > 1e-4
        assert model(torch.tensor([[end]])).logits.isfinite().all()  # a text without words


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_single_step_is_that_of_the_layer(cell: str, bidirectional: bool) -> None:
    model = random_recurrent(cell=cell, bidirectional=bidirectional, num_hidden_layers=2, dropout=0.0)
    ids = torch.tensor([[7], [8], [9]])
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, model.train()(ids).logits, atol=1e-6, rtol=1e-5)


def test_the_classifier_has_two_layers() -> None:
    first, second = (module for module in random_recurrent().classifier if isinstance(module, nn.Linear))
    assert (first.out_features, second.in_features, second.out_features) == (10, 10, 3)


@pytest.mark.parametrize(("name", "value"), [("cell", "rnn"), ("pooling", "avg"), ("input", "words")])
def test_a_configuration_of_something_else_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}='{value}', not one of"):
        RecurrentConfig(**{name: value})


def test_frozen_embeddings_stay_frozen_after_loading(tmp_path: Path) -> None:
    random_recurrent(freeze_embeddings=True).save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).train()
    assert [name for name, tensor in model.named_parameters() if not tensor.requires_grad] == ["embeddings.weight"]
    assert all(tensor.requires_grad for tensor in random_recurrent().parameters())


def test_a_head_that_the_weights_lack_is_as_random_as_in_a_new_model(tmp_path: Path) -> None:
    random_recurrent().save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=7, ignore_mismatched_sizes=True)
    assert model.classifier[3].weight.shape == (7, 10)
    assert 0.1 < model.classifier[3].weight.abs().max() <= 10**-0.5  # as torch initializes a linear layer


WITHOUT_KD_DIST = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, pipeline
folder, ids, text = json.loads(sys.argv[1])
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
with torch.inference_mode():
    logits = model(torch.tensor(ids)).logits.tolist()
classify = pipeline("text-classification", model=folder, trust_remote_code=True, device="cpu")
model.save_pretrained(sys.argv[2])
try:
    import kd_dist
except ModuleNotFoundError:
    print(json.dumps([logits, classify(text)[0]["label"]]))
"""


def test_an_export_loads_without_kd_dist_and_so_does_what_is_saved_there(tiny: TinyWorld, tmp_path: Path) -> None:
    folder, again = save_recurrent(tmp_path / "model", tiny.tokenizer), tmp_path / "again"
    ids, text = random_inputs([9])["input_ids"].tolist(), "今天的比赛"
    for directory, copy in ((folder, again), (again, tmp_path / "third")):
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (directory / file).write_bytes((folder / file).read_bytes())
        done = subprocess.run(
            [sys.executable, "-I", "-c", WITHOUT_KD_DIST, json.dumps([str(directory), ids, text]), str(copy)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        logits, label = json.loads(done.stdout.splitlines()[-1])
        with torch.inference_mode():
            expected = load_classifier(folder, torch.device("cpu")).model(torch.tensor(ids)).logits
        torch.testing.assert_close(torch.tensor(logits), expected)
        assert label in LABELS


def test_weights_without_a_layer_are_refused(tiny: TinyWorld, tmp_path: Path) -> None:
    folder = save_recurrent(tmp_path / "model", tiny.tokenizer)
    weights = load_file(folder / "model.safetensors")
    del weights["layers.0.backwards.weight_hh_l0"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 of 1\d tensors of the encoder .*layers.0.backwards.weight_hh_l0.*random"):
        load_classifier(folder)


def test_a_recurrent_model_has_no_speed(tiny: TinyWorld, tmp_path: Path) -> None:
    classifier = load_classifier(save_recurrent(tmp_path / "model", tiny.tokenizer))
    with pytest.raises(UserError, match="so it has no speed; recurrent models never have$"):
        classifier.at(speed=0.5)
