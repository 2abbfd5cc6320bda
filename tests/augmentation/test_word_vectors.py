"""Neighbours are those of the formula, whatever the form of the file and whatever else is asked."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kd_dist.augmentation import word_vectors
from kd_dist.augmentation.word_vectors import WordVectors
from kd_dist.errors import RunError
from tests.augmentation.world import CPU


def _vectors(path: Path, keep: Callable[[str], bool] = bool) -> WordVectors:
    return WordVectors(str(path), keep, CPU)


def _as(path: Path, how: str, folder: Path) -> Path:
    from gensim.models import KeyedVectors

    target = folder / f"vectors_{how}"
    if how == "no_header":
        target.write_text(path.read_text(encoding="utf-8").split("\n", 1)[1], encoding="utf-8")
    elif how == "gz":
        target = target.with_suffix(".txt.gz")
        target.write_bytes(gzip.compress(path.read_bytes()))
    elif how == "binary":
        KeyedVectors.load_word2vec_format(str(path)).save_word2vec_format(str(target), binary=True)
    return target


@pytest.mark.parametrize("how", ["no_header", "gz", "binary"])
def test_every_form_of_a_word2vec_file_is_read(world, tmp_path, how):
    expected, found = _vectors(world.vectors), _vectors(_as(world.vectors, how, tmp_path))
    words = ["工作", "国家", "经济"]
    assert found.near(words, 5) == expected.near(words, 5)
    assert any(found.near(words, 5).values())


def test_nearest_words_by_centred_cosine(world):
    lines = world.vectors.read_text(encoding="utf-8").splitlines()[1:]
    words = [line.split(" ")[0] for line in lines]
    vectors = np.array([line.split(" ")[1:] for line in lines], dtype=np.float64)
    vectors -= vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors[words.index("国家")] @ vectors.T
    order = [index for index in np.argsort(-cosine) if words[index] != "国家" and len(words[index]) > 1]
    expected = [words[index] for index in order if cosine[index] >= word_vectors.MIN_COSINE][:7]
    assert _vectors(world.vectors, lambda word: len(word) > 1).near(["国家"], 7)["国家"] == expected


def test_neighbours_do_not_depend_on_what_else_is_asked(world, monkeypatch):
    monkeypatch.setattr(word_vectors, "CHUNK", 7)
    words = [line.split(" ")[0] for line in world.vectors.read_text(encoding="utf-8").splitlines()[1:200]]
    together = _vectors(world.vectors).near(words, 9)
    alone = {word: _vectors(world.vectors).near([word], 9)[word] for word in words[::40]}
    assert {word: together[word] for word in alone} == alone
    assert any(alone.values())
    assert _vectors(world.vectors).near(["龘龘"], 9) == {"龘龘": []}


@pytest.mark.parametrize(
    "content",
    [b"", b'{"a": 1}\n', b"3 4\nword 1 2 x 4\n", b"2 4\n\x80\x02binary", b"word one two\n", b"1 2\nword 1 nan\n"],
)
def test_a_file_that_is_not_word2vec_is_named(tmp_path, content):
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"augment\.word_vectors={path} is not a word2vec file"):
        _vectors(path)
