"""Words are replaced by words of the same part of speech that the texts have, and by nothing else."""

import random
from collections import Counter

import pytest

from kd_dist.augmentation.same_kind import SameKind
from kd_dist.augmentation.words import split_words
from kd_dist.errors import RunError

TEXTS = ["孩子喜欢学校", "老师批评学生", "医院提供服务", "学校没有老师"]


def whole(text: str) -> str:
    return text


def test_every_word_of_a_kind_gives_way_to_one_of_its_kind_and_the_others_stay() -> None:
    words = SameKind(TEXTS, whole, probability=1.0)
    kinds = {word: kind for text in TEXTS for word, kind in split_words(text, "zh")}
    drawn = [split_words(words.replaced("老师没有批评孩子!", random.Random(seed)), "zh") for seed in range(50)]
    assert all([kinds.get(word) for word, _ in row] == ["noun", None, "verb", "noun", None] for row in drawn)
    assert all((row[1].text, row[4].text) == ("没有", "!") for row in drawn)
    assert len({row[0].text for row in drawn}) > 3


def test_a_word_is_drawn_as_often_as_it_occurs() -> None:
    words = SameKind(["老师老师老师学生"], whole, probability=1.0)
    drawn = Counter(words.replaced("医院", random.Random(seed)) for seed in range(400))
    assert set(drawn) == {"老师", "学生"}
    assert 0.68 < drawn["老师"] / 400 < 0.82


def test_the_probability_is_that_of_each_word() -> None:
    words = SameKind(["老师"], whole, probability=0.25)
    text = "医院" * 2000
    assert 0.22 < words.replaced(text, random.Random(0)).count("老师") / 2000 < 0.28


def test_what_training_does_not_see_is_neither_read_nor_kept() -> None:
    words = SameKind(["老师学生"], lambda text: text[:2], probability=1.0)
    assert {words.replaced("医院学校", random.Random(seed)) for seed in range(20)} == {"老师"}


def test_texts_without_such_words_are_refused() -> None:
    with pytest.raises(
        RunError, match=r"perturb\.replace_words: the training rows have no Chinese noun.* leave it out"
    ):
        SameKind(["good film", "123"], whole, probability=0.1)
