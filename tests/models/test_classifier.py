"""A classifier folder loads, predicts the same in any order and batch, and says what is wrong with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from kd_dist.data.preprocessing import Encoding, Preprocessing
from kd_dist.errors import UserError
from kd_dist.models.classifier import by_length, load_classifier, plain_preprocessing, predict_logits
from tests.models.random_models import LABELS, save_classifier
from tests.models.recurrent_models import save_recurrent


def row(ids: list[int], types: list[int] | None = None) -> Encoding:
    return Encoding(ids, types, truncated=False)


@pytest.fixture
def folder(tiny, tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "classifier", tiny.tokenizer)


def test_logits_come_in_the_order_of_the_rows_whatever_the_batches(folder: Path) -> None:
    classifier = load_classifier(folder)
    rows = [row([2, *range(10, 10 + length), 3]) for length in (5, 1, 30, 0, 7, 7)]
    one_by_one = np.concatenate([predict_logits(classifier, [single]) for single in rows])
    for batch_size in (1, 4, 6):
        assert predict_logits(classifier, rows, batch_size) == pytest.approx(one_by_one, abs=1e-5)


def test_batches_hold_rows_of_like_length() -> None:
    batches = list(by_length([row([0] * length) for length in (3, 9, 1, 4)], 2))
    assert [batch.tolist() for batch in batches] == [[1, 3], [0, 2]]


def test_labels_and_task(folder: Path, tiny, tmp_path: Path) -> None:
    classifier = load_classifier(folder)
    assert (classifier.labels, classifier.task) == (LABELS, "single_label")
    one = save_classifier(tmp_path / "one", tiny.tokenizer, id2label={0: "x"}, label2id={"x": 0})
    assert load_classifier(one).task == "regression"


def test_long_rows_are_cut_and_counted_and_keep_their_end(folder: Path) -> None:
    classifier = load_classifier(folder)
    texts, end = ["中" * 100, "中"], classifier.tokenizer.sep_token_id
    rows, cut = classifier.encode(Preprocessing(max_length=200), texts, None)
    whole = classifier.tokenizer(texts[0])["input_ids"]
    assert cut == 1
    assert rows[0] == Encoding([*whole[:63], end], rows[0].token_type_ids and [0] * 64, truncated=True)
    assert rows[1].input_ids == classifier.tokenizer(texts[1])["input_ids"]
    assert predict_logits(classifier, rows).shape == (2, 3)


def test_a_model_that_does_not_count_positions_cuts_nothing(tiny, tmp_path: Path) -> None:
    classifier = load_classifier(save_recurrent(tmp_path, tiny.tokenizer))
    rows, cut = classifier.encode(Preprocessing(max_length=200), ["中" * 190], None)
    assert (len(rows[0].input_ids), cut) == (192, 0)
    assert plain_preprocessing(classifier, pairs=False).max_length == 128


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_classifier(tmp_path / "nowhere")


def test_a_stage_folder_is_told_from_its_export(folder: Path) -> None:
    shutil.move(folder, folder.parent / "export")
    with pytest.raises(UserError, match="did you mean `.*export`"):
        load_classifier(folder.parent)


def test_an_encoder_is_no_classifier(tiny) -> None:
    with pytest.raises(UserError, match="not a trained classifier: its config.json names BertModel.*finetune"):
        load_classifier(tiny.teacher)


def test_weights_without_the_head(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="its weights lack classifier.weight"):
        load_classifier(folder)


def test_a_head_of_another_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = {"0": "a", "1": "b"}
    config["label2id"] = {"a": 0, "b": 1}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"weights in .* cannot be loaded.*classifier.bias \[3\], not \[2\]"):
        load_classifier(folder)


def test_damaged_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model.safetensors: damaged, it ends after [\d,]+ of [\d,]+ bytes"):
        load_classifier(folder)


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        load_classifier(folder)


def test_a_damaged_configuration(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="config.json: damaged, .*copy the file again"):
        load_classifier(folder)
