"""Neighbours are those of the formula, whatever else is asked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kd_dist.augmentation import word_vectors
from kd_dist.augmentation.word_vectors import WordVectors
from tests.augmentation.world import CPU


def _vectors(path: Path, keep: Callable[[str], bool] = bool) -> WordVectors:
    return WordVectors(str(path), keep, CPU)


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


def test_lines_that_were_left_out_are_noted(tmp_path, capsys):
    (tmp_path / "vectors").write_text("2 2\na 1 0\nb 0 1\nc\n", "utf-8")
    _vectors(tmp_path / "vectors")
    assert capsys.readouterr().out.startswith(f"note: augment.word_vectors={tmp_path}/vectors: lines left out because ")
