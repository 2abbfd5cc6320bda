"""Words join to their text, and only words of the same kind replace each other."""

from kd_dist.augmentation.words import kind_of, split_words
from tests.augmentation.world import replaceable


def test_words_join_to_the_text(tiny):
    for line in [*tiny.corpus.read_text(encoding="utf-8").splitlines()[:50], "a  b　c\td《未完"]:
        assert "".join(word.text for word in split_words(line, "zh")) == line
        assert "".join(word.text for word in split_words(line, "en")) == line


def test_names_numbers_function_words_and_titles_stay():
    assert replaceable("国际油价4日继续下跌") == ["国际", "油价", "继续", "下跌"]
    assert replaceable("北京的iPhone不是3000元") == []
    assert replaceable("毛泽东没有来") == []
    assert replaceable("电影《红楼梦幻游戏》上映") == ["电影", "上映"]


def test_a_candidate_is_of_the_kind_of_the_word():
    assert kind_of("电影", "zh") == kind_of("音乐", "zh") != kind_of("参加", "zh")
    assert kind_of("北京", "zh") is kind_of("movie", "zh") is kind_of("的", "zh") is kind_of("鑫旮旯", "zh") is None


def test_english_words_as_published():
    assert replaceable("The movie isn't great, 3d-films", "en") == ["movie", "great", "films"]
    assert kind_of("film", "en") == "word"
    assert kind_of("Film", "en") is kind_of("the", "en") is kind_of("##s", "en") is None
