"""A TextGCN classifies new texts by the published formula, and its export loads without kd_dist."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from kd_dist.config.sections.graph import TEXT_GCN
from kd_dist.errors import UserError
from kd_dist.models.classifier import load_classifier
from kd_dist.models.text_gcn import TextGcnConfig, TextGcnForSequenceClassification
from tests.conftest import TinyWorld
from tests.models.random_models import LABELS, LENGTHS, VOCABULARY, random_inputs
from tests.models.test_recurrent import WITHOUT_KD_DIST


def random_text_gcn(vocab_size: int = VOCABULARY) -> TextGcnForSequenceClassification:
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    model = TextGcnForSequenceClassification(TextGcnConfig(vocab_size=vocab_size, hidden_size=8, **labels)).eval()
    model.idf.copy_(torch.rand(vocab_size) + 1)
    model.idf[:5] = 0  # special tokens
    model.degrees.copy_(torch.rand(vocab_size) + 3)
    return model


def save_text_gcn(directory: Path, tokenizer: Path) -> Path:
    names = AutoTokenizer.from_pretrained(tokenizer)
    random_text_gcn(len(names)).save_pretrained(directory)
    names.save_pretrained(directory)
    return directory


def test_the_login_node_knows_the_model_by_its_name() -> None:
    assert TextGcnConfig.model_type == TEXT_GCN


def test_the_logits_are_those_of_the_formula() -> None:
    model, words = random_text_gcn(), [7, 9, 7]  # 7 is there twice
    with torch.inference_mode():
        found_C = model(torch.tensor([[2, *words, 3]])).logits[0]  # special tokens change nothing
        tf_idf = {7: 2 * model.idf[7], 9: model.idf[9]}
        degree = 1 + sum(tf_idf.values())
        edges = {word: weight / (degree * model.degrees[word]).sqrt() for word, weight in tf_idf.items()}
        first_H = sum(edge * model.first.weight[word] for word, edge in edges.items()).relu()
        second_C = model.classifier.weight @ first_H / degree
        second_C = second_C + sum(edge * model.second.weight[word] for word, edge in edges.items())
    torch.testing.assert_close(found_C, second_C)


def test_padding_and_the_order_of_words_have_no_influence() -> None:
    model, inputs = random_text_gcn(), random_inputs(LENGTHS, width=20)
    with torch.inference_mode():
        logits_BC = model(**inputs).logits
        for row, length in enumerate(LENGTHS):
            ids = inputs["input_ids"][row : row + 1, :length]
            for alone in (model(ids).logits[0], model(ids.flip(1)).logits[0]):
                torch.testing.assert_close(logits_BC[row], alone, atol=1e-6, rtol=1e-5)
    assert logits_BC.std(dim=0).min() > 1e-4


def test_an_export_loads_without_kd_dist(tiny: TinyWorld, tmp_path: Path) -> None:
    folder, ids = save_text_gcn(tmp_path / "model", tiny.tokenizer), random_inputs([9])["input_ids"].tolist()
    arguments = [json.dumps([str(folder), ids, "今天的比赛"]), str(tmp_path / "again")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_KD_DIST, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    logits, label = json.loads(done.stdout.splitlines()[-1])
    expected = load_classifier(folder, torch.device("cpu")).model(torch.tensor(ids)).logits
    torch.testing.assert_close(torch.tensor(logits), expected)
    assert label in LABELS
    assert (tmp_path / "again" / "text_gcn.py").exists()  # what is saved there loads as well


def test_what_an_export_lacks_is_refused(tiny: TinyWorld, tmp_path: Path) -> None:
    folder = save_text_gcn(tmp_path / "model", tiny.tokenizer)
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in weights.items() if name != "idf"}, folder / "model.safetensors")
    with pytest.raises(UserError, match="1 of 4 tensors of the encoder are not in the weights"):
        load_classifier(folder)


def test_it_has_no_speeds(tiny: TinyWorld, tmp_path: Path) -> None:
    classifier = load_classifier(save_text_gcn(tmp_path / "model", tiny.tokenizer))
    with pytest.raises(UserError, match="so it has no speed; textgcn models never have$"):
        classifier.at(speed=0.5)
