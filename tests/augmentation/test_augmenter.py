"""Copies replace words at random, each once, and keep the labels of their row."""

import itertools

import pytest
from datasets import load_from_disk

from kd_dist.augmentation import augmenter
from kd_dist.augmentation.words import Word
from kd_dist.config.sections.data import LabelledData
from kd_dist.data import labelled
from kd_dist.data.tokenizers import train_tokenizer
from tests.augmentation.world import rows_of
from tests.stages import run_entry


def test_each_word_is_replaced_with_its_probability_by_a_uniform_choice():
    words = [Word("甲", "noun"), Word("，", None), Word("乙", "noun")]
    options = {0: ["a", "b"], 2: ["c", "d", "e"]}
    texts = list(augmenter.copies(words, options, 20_000, 0.4, seed=1))
    for place, chosen in ((0, "ab"), (2, "cde")):
        shares = {letter: sum(text[place] == letter for text in texts) / len(texts) for letter in chosen}
        assert sum(shares.values()) == pytest.approx(0.4, abs=0.015)
        assert list(shares.values()) == pytest.approx([0.4 / len(chosen)] * len(chosen), abs=0.015)
    both = sum(text[0] != "甲" and text[2] != "乙" for text in texts) / len(texts)
    assert both == pytest.approx(0.16, abs=0.015)
    assert list(augmenter.copies(words, options, 7, 0.4, seed=1)) == texts[:7]
    assert list(augmenter.copies(words, {}, 2, 0.4, seed=1)) == ["甲，乙"] * 2


def test_rows_come_first_and_their_copies_are_new_and_carry_their_labels(world, stage_of, capsys):
    stage_dir = stage_of(mlm_path=str(world.mlm), copies=6)
    run_entry(stage_dir)
    source = load_from_disk(str(world.tokens / "train"))
    rows = rows_of(stage_dir)
    assert list(rows[0]) == ["text", "labels", "row", "copy"]
    assert [row["row"] for row in rows] == sorted(row["row"] for row in rows)
    groups = {number: list(group) for number, group in itertools.groupby(rows, key=lambda row: row["row"])}
    assert list(groups) == list(range(len(source)))
    for number, group in groups.items():
        assert (group[0]["copy"], group[0]["text"]) == (0, source[number]["text"])
        assert {row["labels"] for row in group} == {source[number]["labels"]}
        assert len({row["text"] for row in group}) == len(group)
        assert [row["copy"] for row in group] == sorted({row["copy"] for row in group})
    tried = 6 * len(source)
    assert len(source) * 2 < len(rows) < len(source) + tried
    equal = len(source) + tried - len(rows)
    said = f"{len(source):,} rows gave {len(rows) - len(source):,} more of {tried:,} tried ({equal:,} equal)"
    assert said in capsys.readouterr().out


def test_more_copies_only_add_rows(stage_of):
    few, many = stage_of("few", copies=2), stage_of("many", copies=5)
    run_entry(few)
    run_entry(many)
    assert rows_of(few) == [row for row in rows_of(many) if row["copy"] <= 2]


def test_each_text_of_a_pair_changes_beside_the_original_other(world, stage_of):
    stage_dir = stage_of(tokens=world.pairs, copies=3)
    run_entry(stage_dir)
    source = load_from_disk(str(world.pairs / "train"))
    changed = {"text": 0, "text_pair": 0}
    for row in rows_of(stage_dir):
        original = source[row["row"]]
        different = [name for name in changed if row[name] != original[name]]
        assert len(different) == bool(row["copy"])
        for name in different:
            changed[name] += 1
            assert (row["copy"] <= 3) == (name == "text")
    assert all(changed.values())


def test_english_keeps_the_text_around_the_words(stage_of, tmp_path):
    (tmp_path / "films.tsv").write_text("".join(f"{i % 2}\tA Great film, isn't it? {i}\n" for i in range(40)), "utf-8")
    train_tokenizer([tmp_path / "films.tsv"], tmp_path / "tokenizer", 100, "text")
    data = LabelledData(train=[str(tmp_path / "films.tsv")], num_workers=1)
    labelled.prepare(data, str(tmp_path / "tokenizer"), tmp_path / "tokens", tmp_path / "train.txt")
    (tmp_path / "glove.txt").write_text("great 1 0\nfilm 0 1\ngood 1 0.1\nmovie 0.1 1\nthe 1 0\nrow -1 -1\n", "utf-8")
    stage_dir = stage_of(tokens=tmp_path / "tokens", language="en", word_vectors=str(tmp_path / "glove.txt"))
    run_entry(stage_dir)
    texts = {row["text"].rsplit(" ", 1)[0] for row in rows_of(stage_dir)}
    expected = itertools.product(("Great", "good"), ("film", "movie"))
    assert texts == {f"A {adjective} {noun}, isn't it?" for adjective, noun in expected}
