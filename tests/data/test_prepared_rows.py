"""What is written to a folder of prepared rows is what others read from it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import (
    PreparedRows,
    open_lengths,
    share_held_out,
    write_data_report,
    write_encoding,
    write_statistics,
    write_tokenizer,
)
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError, UserError
from tests.conftest import LabelledWorld, TinyWorld


def test_what_is_written_is_read(tiny: TinyWorld, tmp_path: Path):
    rows = PreparedRows(tmp_path)
    assert not rows.exist()
    assert not rows.have_preprocessing()
    tokenizer = AutoTokenizer.from_pretrained(tiny.tokenizer)
    write_encoding(tmp_path, tokenizer, Preprocessing(24, pairs=True), Labels("multi_label", {"a": 0, "b": 1}))
    write_statistics(tmp_path, {"task": "multi_label", "train_rows": 3, "test_rows": 0})
    write_data_report(tmp_path, {"train": {"rows": 3, "labels": {"b": 1, "a": 2}}})
    assert rows.exist()
    assert rows.have_preprocessing()
    assert rows.labels == Labels("multi_label", {"a": 0, "b": 1})
    assert rows.preprocessing == Preprocessing(24, pairs=True)
    assert AutoTokenizer.from_pretrained(rows.tokenizer_folder).get_vocab() == tokenizer.get_vocab()
    assert (rows.num_rows("train"), rows.are_labelled()) == (3, True)
    assert rows.label_shares().tolist() == [2.5 / 4, 1.5 / 4]
    assert rows.balanced_class_weights().tolist() == [3 / (2 * 2), 3 / (2 * 1)]


def test_the_mean_of_balanced_weights_over_the_rows_is_1(labelled: LabelledWorld):
    rows = PreparedRows(labelled.tokens)
    weights_C = rows.balanced_class_weights()
    labels = np.array(rows.dataset("train")["labels"][:])
    assert weights_C[labels].mean() == pytest.approx(1)
    counts = np.bincount(labels)
    assert rows.label_shares() == pytest.approx((counts + 0.5) / (len(labels) + 1))


@pytest.mark.parametrize(("max_length", "dtype"), [(48, np.uint16), (65_535, np.uint16), (65_536, np.uint32)])
def test_lengths_have_room_for_the_longest(max_length: int, dtype: type, tmp_path: Path):
    open_lengths(tmp_path, "train", 3, max_length)[:] = [1, max_length, 2]
    open_lengths(tmp_path, "test", 0, max_length)
    lengths = PreparedRows(tmp_path).lengths("train")
    assert lengths.dtype == dtype
    assert lengths.tolist() == [1, max_length, 2]
    assert len(PreparedRows(tmp_path).lengths("test")) == 0


def test_a_corpus_has_no_labels(tiny: TinyWorld):
    rows = PreparedRows(tiny.tokens)
    assert rows.exist()
    assert not rows.are_labelled()
    assert not rows.have_preprocessing()
    with pytest.raises(RunError, match="holds rows without labels: prepare them with a `labelled` stage"):
        _ = rows.labels
    with pytest.raises(UserError, match=r"preprocessing.json: no such file"):
        _ = rows.preprocessing


def test_held_out_rows_are_shared_by_links_that_survive_a_move(labelled: LabelledWorld, tmp_path: Path):
    shutil.copytree(labelled.tokens, tmp_path / "run" / "labelled" / "tokens")
    rows = PreparedRows(tmp_path / "run" / "labelled" / "tokens")
    output, place = tmp_path / "temporary" / "deep" / "output", tmp_path / "run" / "augmented" / "tokens"
    output.mkdir(parents=True)
    place.parent.mkdir()
    share_held_out(rows, output, place)
    os.rename(output, place)
    os.rename(tmp_path / "run", tmp_path / "moved")
    shared = PreparedRows(tmp_path / "moved" / "augmented" / "tokens")
    original = PreparedRows(labelled.tokens)
    assert shared.held_out_texts() == original.held_out_texts()
    assert len(shared.held_out_texts()) == original.num_rows("validation") + original.num_rows("test")
    assert shared.lengths("validation").tolist() == original.lengths("validation").tolist()
    assert (shared.preprocessing, shared.label2id) == (original.preprocessing, original.label2id)
    assert not shared.split_folder("train").exists()
    assert not shared.exist()  # the statistics are of other rows


def test_a_tokenizer_alone(tiny: TinyWorld, tmp_path: Path):
    write_tokenizer(tmp_path, AutoTokenizer.from_pretrained(tiny.tokenizer))
    assert AutoTokenizer.from_pretrained(PreparedRows(tmp_path).tokenizer_folder).pad_token_id == 0
