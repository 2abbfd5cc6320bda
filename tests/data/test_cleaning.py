"""Cleaning removes what is invisible, and sentences join to the text again."""

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from kd_dist.data import cleaning


def test_clean_folds_and_removes():
    assert cleaning.clean("\ufeff Ａ１\u3000①\t好\u200b的\x00，\r\n\ud800x\u00ad  ") == "A1 1 好的, x"


def test_the_invisible_characters_are_the_unicode_categories():
    for character in map(chr, range(0x110000)):
        category = unicodedata.category(character)
        if category != "Cn":  # not assigned in this Python's Unicode version, perhaps in a later one
            invisible = category in ("Cc", "Cf", "Cs") and not character.isspace()
            assert bool(cleaning.INVISIBLE.match(character)) == invisible, hex(ord(character))


@given(st.text())
@settings(deadline=None, max_examples=200)
def test_clean_twice_is_clean_once(text: str):
    once = cleaning.clean(text)
    assert cleaning.clean(once) == once
    once.encode()


def test_split_sentences():
    text = '他说:"走吧!"她没动。真的?! 3.14 is e.g. pi. End… "Yes." Then...好;完'
    expected = [
        '他说:"走吧!"',
        "她没动。",
        "真的?! ",
        "3.14 is e.g. ",
        "pi. ",
        "End… ",
        '"Yes." ',
        "Then...",
        "好;",
        "完",
    ]
    assert cleaning.split_sentences(text) == expected


@given(st.text(alphabet='a.。!?;…"”) 好\n', max_size=60))
@settings(deadline=None, max_examples=200)
def test_sentences_join_to_the_text(text: str):
    sentences = cleaning.split_sentences(text)
    assert "".join(sentences) == text
    assert all(sentences)
