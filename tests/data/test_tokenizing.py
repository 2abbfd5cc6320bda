"""Rows lose no token and never exceed their length."""

from pathlib import Path

import jieba
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, PreTrainedTokenizerFast, XLNetTokenizer

from kd_dist.data.cleaning import clean
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.tokenizing import tokenize_blocks
from kd_dist.errors import CorpusError

LINES = st.lists(
    st.text(alphabet="今天气很好我们去公园abc12 .。!;,𠀀", min_size=1, max_size=120).map(clean).filter(bool),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def sentence_piece(random_text: Path):
    """A unigram tokenizer with "▁" for spaces, <s> and </s>, and byte pieces for unknown characters: the XLM-R kind."""
    unigram = Tokenizer(models.Unigram(byte_fallback=True))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False)
    unigram.train([str(random_text)], trainer)
    unigram.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=unigram, pad_token="<pad>", unk_token="<unk>")


# ----------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("kind", ["trained_tokenizer", "sentence_piece"])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_packing_loses_no_token_and_never_exceeds_max_length(request: pytest.FixtureRequest, kind: str, data):
    tokenizer, lines, max_length = request.getfixturevalue(kind), data.draw(LINES), data.draw(st.integers(3, 40))
    rows = tokenize_blocks([lines], tokenizer, max_length, pack=True, word_starts=True)
    for row in rows:
        ids = row["input_ids"]
        assert 2 < len(ids) <= max_length
        assert len(row["word_starts"]) == len(ids)
        assert [ids[0], ids[-1]] == tokenizer("")["input_ids"]
    expected = [token for line in lines for token in tokenizer(line, add_special_tokens=False)["input_ids"]]
    assert [token for row in rows for token in row["input_ids"][1:-1]] == expected


def test_packing_cuts_at_sentences_and_only_long_sentences_inside(trained_tokenizer):
    rows = tokenize_blocks(
        [["我们。天气。", "今天天气很好我们去公园", "好"]], trained_tokenizer, 8, pack=True, word_starts=False
    )
    decoded = [trained_tokenizer.decode(row["input_ids"][1:-1]).replace(" ", "") for row in rows]
    assert decoded == ["我们。天气。", "今天天气很好", "我们去公园好"]


def test_the_last_token_of_xlnet_is_a_segment_of_its_own():
    special = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>", "▁"]
    xlnet = XLNetTokenizer(vocab=[(piece, -3.0) for piece in [*special, *"今天好"]])
    [row] = tokenize_blocks([["今天好"]], xlnet, 8, pack=True, word_starts=False)
    assert xlnet.convert_ids_to_tokens(row["input_ids"]) == ["▁", *"今天好", "<sep>", "<cls>"]
    assert row["token_type_ids"] == [0, 0, 0, 0, 0, 2]


def test_a_vocabulary_of_words_gets_words():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *"天气很好去公园。ab", "天气", "公园", "##b"]
    words = BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)})
    lines = ["天气很好。去公园", "ab 天气"]
    rows = tokenize_blocks([lines], words, 8, pack=True, word_starts=True)
    assert [words.convert_ids_to_tokens(row["input_ids"][1:-1]) for row in rows] == [
        ["天气", *"很好。", "去", "公园"],
        ["a", "##b", "天气"],
    ]
    assert rows[1]["word_starts"] == [True, True, False, True, True]
    plain = Preprocessing(32, "word").encode(words, lines)
    assert [i for row in plain for i in row.input_ids[1:-1]] == [i for row in rows for i in row["input_ids"][1:-1]]


def test_without_packing_a_line_is_a_row(trained_tokenizer):
    rows = tokenize_blocks([["好", "今天天气很好"]], trained_tokenizer, 6, pack=False, word_starts=False)
    assert [row["truncated"] for row in rows] == [False, True]
    expected = trained_tokenizer(["好", "今天天气很好"], truncation=True, max_length=6)["input_ids"]
    assert [row["input_ids"] for row in rows] == expected


def test_word_starts_agree_with_jieba(trained_tokenizer):
    line = "今天天气很好,我们去北京大学 train v2。"
    (row,) = tokenize_blocks([[line]], trained_tokenizer, 64, pack=False, word_starts=True)
    pieces = trained_tokenizer.convert_ids_to_tokens(row["input_ids"])
    words, word = [], ""
    for piece, starts in list(zip(pieces, row["word_starts"], strict=True))[1:]:
        if starts and word:
            words.append(word)
            word = ""
        word += piece.removeprefix("##")
    assert words == [word for word in jieba.cut(line) if word.strip()]
    assert row["word_starts"][0]
    assert row["word_starts"][-1]


def test_max_length_must_leave_room(trained_tokenizer):
    with pytest.raises(CorpusError, match="max_length=2 leaves no room beside 2 special tokens"):
        tokenize_blocks([["好"]], trained_tokenizer, 2, pack=True, word_starts=False)
