"""Split texts into words, and say which words may replace each other.

Chinese is segmented by jieba, which also tags the part of speech. A word may only be replaced by one of the same kind:
both Chinese, both nouns (or verbs, ...), neither a function word, a number or a name. The published code, whose words
are `[a-z]+` only, makes no such distinction. Importing this module is cheap: jieba is imported when it is used.
"""

import functools
import re
from typing import Any, Literal, NamedTuple

Language = Literal["zh", "en"]

# jieba's tags of content words, grouped by which may replace each other. Proper names (nr, ns, nt, nz), numbers
# (m), times (t), abbreviations (j), morphemes (ng, vg, ag) and adverbs (d: 不, 没有, 再也) stay as they are.
KINDS = {
    **dict.fromkeys(("n", "s"), "noun"),
    **dict.fromkeys(("v", "vd"), "verb"),
    **dict.fromkeys(("vn",), "verbal noun"),
    **dict.fromkeys(("a", "ad", "an"), "adjective"),
    **dict.fromkeys(("b", "z"), "attribute"),
    **dict.fromkeys(("i", "l"), "phrase"),
}

# Chinese function words that jieba tags as nouns, verbs or adjectives, and verbs whose replacement reverses a sentence.
CHINESE_STOP_WORDS = frozenset(
    """
    是 有 无 没 没有 不能 不会 不用 不可 不得 不同 不足 不利 能 能够 会 可 可能 应 应该 应当 需
    需要 要 想 想要 愿 愿意 敢 肯 让 使 令 叫 还有 到 经 随 样 时 时候 内 来 去 起 来自 成 成为
    作为 属于 位于 等于 包括 包含 例如 比如 譬如 看来 据说 称 说 表示 认为 觉得 一般 所有 全部 大 小
    少 高 低 长 短 好 坏 新 旧 老 早 快 慢 难 易 假 错 人 人们 事 事情 问题 方面 部分 情况
    """.split()  # noqa: SIM905 - a list of words reads better than a list of strings
)

# The English stop list of NLTK (179 words), split at apostrophes as BERT's basic tokenizer does.
ENGLISH_STOP_WORDS = frozenset(
    """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers
    herself it its itself they them their theirs themselves what which who whom this that these those am is are
    was were be been being have has had having do does did doing a an the and but if or because as until while of
    at by for with about against between into through during before after above below to from up down in out on
    off over under again further then once here there when where why how all any both each few more most other
    some such no nor not only own same so than too very s t can will just don should now d ll m o re ve y ain aren
    couldn didn doesn hadn hasn haven isn ma mightn mustn needn shan shouldn wasn weren won wouldn
    """.split()  # noqa: SIM905 - a list of words reads better than a list of strings
)

_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0002ebef]+")

_ENGLISH = re.compile(r"[a-z]+")

_WORD_CHARACTERS = re.compile(r"(\w+)")

_OPENING, _CLOSING = "《", "》"


class Word(NamedTuple):
    """A word of a text, or what is between words; joined, they are the text again.

    `kind`: only words of the same kind may replace it; None: it stays.
    """

    text: str
    kind: str | None


def split_words(text: str, language: Language) -> list[Word]:
    """Split a text into words. Titles of works, in 《》, get no kind: they stay as they are."""
    if language == "en":
        return [Word(part, kind_of(part.lower(), language)) for part in _WORD_CHARACTERS.split(text) if part]
    words, inside_title = [], False
    for part, tag in _tagger().lcut(text):
        inside_title = (inside_title or part == _OPENING) and part != _CLOSING
        words.append(Word(part, None if inside_title else _chinese_kind(part, tag)))
    return words


@functools.lru_cache(maxsize=1 << 18)
def kind_of(word: str, language: Language) -> str | None:
    """Return the kind of a word without context; None if it may neither be replaced nor replace another."""
    if language == "en":
        return "word" if _ENGLISH.fullmatch(word) and word not in ENGLISH_STOP_WORDS else None
    return _chinese_kind(word, _tagger().word_tag_tab.get(word))


def _chinese_kind(word: str, tag: str | None) -> str | None:
    """Return the kind of a word with one of jieba's tags, or with None if jieba does not know the word."""
    return KINDS.get(tag or "") if _CHINESE.fullmatch(word) and word not in CHINESE_STOP_WORDS else None


@functools.cache
def _tagger() -> Any:
    from kd_dist.data.jieba_words import word_cutter

    word_cutter()
    from jieba import posseg

    posseg.dt.initialize()
    return posseg.dt
