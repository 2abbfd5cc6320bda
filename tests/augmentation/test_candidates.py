"""Each source proposes for the words that it can replace."""

from typing import Any

from kd_dist.augmentation.candidates import Candidates
from kd_dist.augmentation.sources import Sources
from kd_dist.augmentation.words import kind_of, split_words
from kd_dist.config.sections.augmentation import Augment
from tests.augmentation.world import CPU, World, replaceable


def _candidates(world: World, text: str, mlm: bool, vectors: bool, **settings: Any) -> dict[str, list[str]]:
    sources = Sources(str(world.mlm) if mlm else None, str(world.vectors) if vectors else None)
    words = split_words(text, settings.get("language", "zh"))
    (found,) = Candidates.of(Augment(candidates=60, **settings), sources, CPU)([words])
    for index, options in found.items():
        language = settings.get("language", "zh")
        assert words[index].text not in options
        assert {kind_of(option, language) for option in options} == {words[index].kind}
    return {words[index].text: options for index, options in found.items()}


def test_which_source_stands_for_which_word(world, capsys):
    text = "国家经济工作的人心"
    assert replaceable(text) == ["国家", "经济", "工作", "人心"]
    by_vectors = _candidates(world, text, mlm=False, vectors=True)
    assert "国家" in by_vectors
    assert _candidates(world, text, mlm=True, vectors=True) == by_vectors  # every word has several pieces
    assert _candidates(world, text, mlm=True, vectors=False) == {}
    assert "words of several pieces stay as they are" in capsys.readouterr().out
    masked = _candidates(world, text, mlm=True, vectors=False, multi_piece="mask")
    assert all(len(option) == len(word) for word, options in masked.items() for option in options)
    one_piece = _candidates(world, "我买书看球", mlm=True, vectors=True)
    assert all(len(option) == 1 for options in one_piece.values() for option in options)


def test_one_character_is_left_to_the_language_model(world):
    assert _candidates(world, "我买书看球", mlm=False, vectors=True) == {}
