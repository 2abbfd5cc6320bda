"""Text becomes the tokens that transformers would make of it, words and hints included, and the same when loaded."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast, XLNetTokenizer

from kd_dist.data import preprocessing as preprocessing_module
from kd_dist.data.cleaning import clean
from kd_dist.data.preprocessing import (
    CHARACTERS_PER_TOKEN,
    Preprocessing,
    longest_first,
    num_token_types,
    read_hint_words,
    segment_for,
)
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import CorpusError, UserError
from tests.conftest import TinyWorld

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气很好我们去公园,x", "天气", "公园", "##x", "small", "xx"]
TEXT = st.text(alphabet="今天气很好我们去公园, x。\u3000", max_size=40)
WORDS = Path(__file__).parents[3] / "shared" / "vocabs" / "wobert_plus_base_vocab.txt"


@pytest.fixture(scope="module")
def tokenizer(tiny: TinyWorld):
    return AutoTokenizer.from_pretrained(tiny.tokenizer)


@pytest.fixture(scope="module")
def words():
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(PIECES)})


@pytest.fixture(scope="module")
def unigram():
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [("<unk>", 0.0), ("▁", -2.0), *((piece, -3.0) for piece in ("▁天气", "天气", *"今天气很好"))]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def tokens(tokenizer, preprocessing: Preprocessing, *texts: str) -> list[str]:
    pair = [[text] for text in texts[1:]]
    return tokenizer.convert_ids_to_tokens(preprocessing.encode(tokenizer, [texts[0]], *pair)[0].input_ids)


# ---------------------------------------------------------------------------------------------- as transformers does it


@given(texts=st.lists(TEXT, min_size=1, max_size=4), max_length=st.integers(8, 24))
@settings(deadline=None, max_examples=60)
def test_single_texts_are_those_of_transformers(tokenizer, texts: list[str], max_length: int):
    found = Preprocessing(max_length).encode(tokenizer, texts)
    cleaned = [clean(text) for text in texts]
    assert [row.input_ids for row in found] == tokenizer(cleaned, truncation=True, max_length=max_length)["input_ids"]
    assert [row.truncated for row in found] == [len(ids) > max_length for ids in tokenizer(cleaned)["input_ids"]]
    assert all(row.token_type_ids is None for row in found)


@given(first=TEXT, second=TEXT, max_length=st.integers(8, 24))
@settings(deadline=None, max_examples=100)
def test_pairs_are_those_of_transformers(tokenizer, first: str, second: str, max_length: int):
    [row] = Preprocessing(max_length, pairs=True).encode(tokenizer, [first], [second])
    pair = [clean(first)], [clean(second)]
    expected = tokenizer(*pair, truncation="longest_first", max_length=max_length)
    assert row.input_ids == expected["input_ids"][0]
    assert row.token_type_ids == expected["token_type_ids"][0]
    assert row.truncated == (len(tokenizer(*pair)["input_ids"][0]) > max_length)


@pytest.fixture(scope="module")
def xlnet():
    pieces = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>", "▁", *"今天气很好"]
    return XLNetTokenizer(vocab=[(piece, -3.0) for piece in pieces])


def test_the_last_token_of_xlnet_is_a_segment_of_its_own(xlnet, tmp_path: Path):
    assert xlnet("今天").get("token_type_ids") is None  # as transformers 5 has it
    xlnet.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert num_token_types(loaded) == 3
    [single] = Preprocessing(8).encode(loaded, ["今天好好好好好"])
    assert single.token_type_ids == [0] * 7 + [2]
    assert loaded.convert_ids_to_tokens(single.input_ids) == ["▁", *"今天好好好", "<sep>", "<cls>"]
    [pair] = Preprocessing(12, pairs=True).encode(loaded, ["今天"], ["好"])
    assert pair.token_type_ids == [0, 0, 0, 0, 1, 1, 1, 2]
    for row, theirs in (
        (single, loaded("今天好好好好好", truncation=True, max_length=8)),
        (pair, loaded("今天", "好")),
    ):
        assert (row.input_ids, row.token_type_ids) == (theirs["input_ids"], theirs["token_type_ids"])
    loaded.save_pretrained(tmp_path / "again")
    assert AutoTokenizer.from_pretrained(tmp_path / "again")("今天")["token_type_ids"] == [0, 0, 0, 0, 2]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_the_longer_segment_gives_up_its_tokens(first: int, second: int, room: int):
    kept_first, kept_second = longest_first(first, second, room)
    assert kept_first + kept_second == min(room, first + second)
    assert 0 <= kept_first <= first
    assert 0 <= kept_second <= second
    if kept_first < first and kept_second < second:
        assert abs(kept_first - kept_second) <= 1
    elif kept_first < first:
        assert kept_first >= kept_second - 1


def test_types_only_where_the_model_takes_them(tiny: TinyWorld):
    tokenizer = AutoTokenizer.from_pretrained(tiny.tokenizer)
    pairs = Preprocessing(16, pairs=True)
    assert pairs.has_token_types(tokenizer)
    assert not Preprocessing(16).has_token_types(tokenizer)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    assert pairs.encode(tokenizer, ["今天"], ["天气"])[0].token_type_ids is None


def test_texts_and_pairs_must_fit_what_was_learnt(tokenizer):
    with pytest.raises(UserError, match="give a second text"):
        Preprocessing(16, pairs=True).encode(tokenizer, ["一"])
    with pytest.raises(UserError, match="give no second text"):
        Preprocessing(16).encode(tokenizer, ["一"], ["二"])
    with pytest.raises(UserError, match="2 texts, but 1 second"):
        Preprocessing(16, pairs=True).encode(tokenizer, ["一", "二"], ["三"])


# ------------------------------------------------------------------------------------------------------------- segments


def test_words_of_the_vocabulary_are_one_token(words):
    text = "我们天气很好，去公园 small xx"
    whole = tokens(words, Preprocessing(32, "word"), text)
    assert whole == ["[CLS]", *"我们", "天气", *"很好,去", "公园", "small", "xx", "[SEP]"]
    assert tokens(words, Preprocessing(32), text) == ["[CLS]", *"我们天气很好,去公园", "small", "xx", "[SEP]"]


def test_words_of_other_vocabularies_get_spaces(unigram):
    assert tokens(unigram, Preprocessing(32), "很好天气") == ["▁", *"很好", "天气"]
    assert tokens(unigram, Preprocessing(32, "word"), "很好天气") == ["▁", "很", "▁", "好", "▁天气"]
    assert tokens(unigram, Preprocessing(32, "char"), "天气 好") == ["▁", "天", "▁", "气", "▁", "好"]


def test_a_vocabulary_of_words_is_for_words(tokenizer, words, unigram):
    assert [segment_for(each) for each in (words, tokenizer, unigram)] == ["word", "none", "none"]


def test_words_of_the_published_word_vocabulary():
    if not WORDS.exists():
        pytest.skip("no WoBERT vocabulary beside the repository")
    pieces = WORDS.read_text(encoding="utf-8").split("\n")
    tokenizer = BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)})
    found = tokens(tokenizer, Preprocessing(32, segment_for(tokenizer)), "知识蒸馏让模型变小")
    assert found == ["[CLS]", "知识", "蒸馏", "让", "模型", "变小", "[SEP]"]


@pytest.mark.parametrize("segment", ["none", "char", "word"])
def test_a_million_characters_are_cut_soon(words, segment: str):
    text = "天气很好" * 250_000
    encoding, short = Preprocessing(16, segment).encode(words, [text, "天气"])
    assert encoding == Preprocessing(16, segment).encode(words, [text[: 16 * CHARACTERS_PER_TOKEN]])[0]
    assert (len(encoding.input_ids), encoding.truncated, short.truncated) == (16, True, False)


def test_what_is_clipped_counts_as_truncated(words):
    text = "x" * (16 * CHARACTERS_PER_TOKEN + 1)  # one unknown word, one token
    assert Preprocessing(16).encode(words, [text])[0] == ([2, 1, 3], None, True)


# ----------------------------------------------------------------------------------------------------------- hint words


def test_hint_words_stand_before_the_text(words):
    hints = Preprocessing(32, "word", hint_words={"place": ["公园", "园"], "weather": ["天气", "公园"]})
    found = hints.encode(words, ["我们去公园，天气很好", "我们很好"])
    assert words.convert_ids_to_tokens(found[0].input_ids) == [
        "[CLS]", "公园", "园", "天气", "[SEP]", *"我们去", "公园", ",", "天气", *"很好", "[SEP]"
    ]  # fmt: skip
    assert found[0].token_type_ids == [0] * 5 + [1] * 9
    assert words.convert_ids_to_tokens(found[1].input_ids) == ["[CLS]", *"我们很好", "[SEP]"]
    assert found[1].token_type_ids == [0] * 6


def test_hint_words_before_a_pair(words):
    hints = Preprocessing(32, pairs=True, hint_words={"place": ["公园"]})
    found = tokens(words, hints, "去公园", "公园很好")
    assert found == ["[CLS]", *"公园", "[SEP]", *"去公园", "[SEP]", *"公园很好", "[SEP]"]


def test_the_file_of_hint_words(tmp_path: Path):
    file = tmp_path / "hints.txt"
    file.write_text("地点\t公园 Ａ\n\n天气\t晴 雨\n地点\t公园 海\n", encoding="utf-8")
    assert read_hint_words(file) == {"地点": ["公园", "A", "海"], "天气": ["晴", "雨"]}
    for line in ("公园", "地点\t ", "\t公园"):
        file.write_text(f"地点\t公园\n{line}\n", encoding="utf-8")
        with pytest.raises(CorpusError, match=r"hints.txt, line 2: expected `category<TAB>word word ...`, found"):
            read_hint_words(file)


# ---------------------------------------------------------------------------------------------- what does not fit a row

MIXED = st.text(st.sampled_from("今天㐀豈𠀀ａb1，. \u0301é\u3000가ｶ") | st.characters(), max_size=60)


@given(texts=st.lists(MIXED, min_size=1, max_size=5), segment=st.sampled_from(["none", "char"]))
@settings(deadline=None, max_examples=200)
def test_what_follows_more_characters_than_fit_changes_nothing(texts: list[str], segment: str, words):
    preprocessing = Preprocessing(10, segment)
    texts = [clean(text) for text in texts]
    found = preprocessing.encode_clean(words, texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Preprocessing, "_loses_the_rest", lambda *_: False)
        assert found == preprocessing.encode_clean(words, texts)
    assert found == preprocessing.encode(words, texts)


def test_the_rest_of_a_long_text_is_not_tokenized(words, monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []
    plain = preprocessing_module._plain_ids
    monkeypatch.setattr(
        preprocessing_module, "_plain_ids", lambda tokenizer, texts: seen.extend(texts) or plain(tokenizer, texts)
    )
    (row,) = Preprocessing(8).encode(words, ["公园 ab" * 1_000])
    assert (len(row.input_ids), row.truncated, seen) == (8, True, ["公园 ab" * 4 + "公"])


def test_added_tokens_words_and_pairs_need_the_whole_text(words, tiny: TinyWorld):
    assert Preprocessing(8)._loses_the_rest(words)
    for other in (Preprocessing(8, pairs=True), Preprocessing(8, "word"), Preprocessing(8, hint_words={"a": ["b"]})):
        assert not other._loses_the_rest(words)
    added = AutoTokenizer.from_pretrained(tiny.tokenizer)
    added.add_tokens(["公园"])
    assert not Preprocessing(8)._loses_the_rest(added)


# --------------------------------------------------------------------------------------------------------------- saving


def test_saved_and_loaded_it_is_the_same(tmp_path: Path, words):
    saved = Preprocessing(12, "word", hint_words={"地点": ["公园"]})
    saved.save(tmp_path)
    loaded = Preprocessing.load(tmp_path)
    assert loaded == saved
    assert json.loads((tmp_path / "preprocessing.json").read_text())["hint_words"] == {"地点": ["公园"]}
    texts = ["我们去公园，天气很好", "", "xx"]
    assert loaded.encode(words, texts) == [saved.encode(words, [text])[0] for text in texts]
    with pytest.raises(UserError, match=r"missing/preprocessing.json: no such file"):
        Preprocessing.load(tmp_path / "missing")
