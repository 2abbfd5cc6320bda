"""Rows lose no token and never exceed their length, and the trained tokenizer is a repeatable BERT one."""

import random
from pathlib import Path

import jieba
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kd_dist.data.cleaning import clean
from kd_dist.data.tokenizers import SPECIAL_TOKENS, train_tokenizer
from kd_dist.data.tokenizing import tokenise_blocks
from kd_dist.errors import CorpusError

WORDS = ["今天", "天气", "很好", "我们", "公园", "研究", "语言", "模型", "知识", "蒸馏", "学生", "老师", "北京", "大学"]
WORDS += ["快速", "训练", "test", "model", "small", "v2"]
LINES_TO_TOKENISE = [
    "今天天气很好。我们去公园!",
    "知识蒸馏训练学生模型。",
    "老师很好?",
    "Small models train fast. Yes!",
    "北京大学",
]
LINES = st.lists(
    st.text(alphabet="今天气很好我们去公园abc12 .。!;,𠀀", min_size=1, max_size=120).map(clean).filter(bool),
    min_size=1,
    max_size=6,
)


def random_line(rng: random.Random, num_words: int) -> str:
    return "".join(rng.choice(WORDS) + rng.choice(["", "", "", "。", "!", ". ", ","]) for _ in range(num_words))


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 400 different lines in documents of up to 20 lines."""
    rng = random.Random(0)
    lines = ["" if rng.random() < 0.05 else random_line(rng, rng.randint(2, 30)) for _ in range(420)]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    more = folder / "more.txt"
    more.write_text("\n".join(LINES_TO_TOKENISE), encoding="utf-8")
    train_tokenizer([text_file, more], folder / "bert", vocabulary_size=200, text_field="text")
    return str(folder / "bert")


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir: str):
    return AutoTokenizer.from_pretrained(tokenizer_dir)


@pytest.fixture(scope="module")
def sentence_piece(text_file: Path):
    """A unigram tokenizer with "▁" for spaces, <s> and </s>, and byte pieces for unknown characters: the XLM-R kind."""
    unigram = Tokenizer(models.Unigram(byte_fallback=True))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False)
    unigram.train([str(text_file)], trainer)
    unigram.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=unigram, pad_token="<pad>", unk_token="<unk>")


# ----------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("kind", ["tokenizer", "sentence_piece"])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_packing_loses_no_token_and_never_exceeds_max_length(request: pytest.FixtureRequest, kind: str, data):
    tokenizer, lines, max_length = request.getfixturevalue(kind), data.draw(LINES), data.draw(st.integers(3, 40))
    rows = tokenise_blocks([lines], tokenizer, max_length, pack=True, word_starts=True)
    for row in rows:
        ids = row["input_ids"]
        assert 2 < len(ids) <= max_length
        assert len(row["word_starts"]) == len(ids)
        assert [ids[0], ids[-1]] == tokenizer("")["input_ids"]
    expected = [token for line in lines for token in tokenizer(line, add_special_tokens=False)["input_ids"]]
    assert [token for row in rows for token in row["input_ids"][1:-1]] == expected


def test_packing_cuts_at_sentences_and_only_long_sentences_inside(tokenizer):
    rows = tokenise_blocks(
        [["我们。天气。", "今天天气很好我们去公园", "好"]], tokenizer, 8, pack=True, word_starts=False
    )
    decoded = [tokenizer.decode(row["input_ids"][1:-1]).replace(" ", "") for row in rows]
    assert decoded == ["我们。天气。", "今天天气很好", "我们去公园好"]


def test_without_packing_a_line_is_a_row(tokenizer):
    rows = tokenise_blocks([["好", "今天天气很好"]], tokenizer, 6, pack=False, word_starts=False)
    assert [row["truncated"] for row in rows] == [False, True]
    assert [row["input_ids"] for row in rows] == tokenizer(["好", "今天天气很好"], truncation=True, max_length=6)[
        "input_ids"
    ]


def test_word_starts_agree_with_jieba(tokenizer):
    line = "今天天气很好,我们去北京大学 train v2。"
    (row,) = tokenise_blocks([[line]], tokenizer, 64, pack=False, word_starts=True)
    pieces = tokenizer.convert_ids_to_tokens(row["input_ids"])
    words, word = [], ""
    for piece, starts in list(zip(pieces, row["word_starts"], strict=True))[1:]:
        if starts and word:
            words.append(word)
            word = ""
        word += piece.removeprefix("##")
    assert words == [word for word in jieba.cut(line) if word.strip()]
    assert row["word_starts"][0]
    assert row["word_starts"][-1]


def test_max_length_must_leave_room(tokenizer):
    with pytest.raises(CorpusError, match="max_length=2 leaves no room beside 2 special tokens"):
        tokenise_blocks([["好"]], tokenizer, 2, pack=True, word_starts=False)


# ----------------------------------------------------------------------------------------------------------- tokenizers


def test_the_trained_tokenizer_is_bert_with_single_characters(tokenizer, tokenizer_dir: str):
    assert tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS) == [0, 1, 2, 3, 4]
    assert tokenizer.tokenize("今天TEST") == ["今", "天", "test"]
    assert tokenizer("今天")["input_ids"][0] == tokenizer.cls_token_id
    assert type(tokenizer).__name__.startswith("BertTokenizer")


def test_training_twice_gives_the_same_vocabulary(tmp_path: Path, text_file: Path, tokenizer):
    train_tokenizer([text_file], tmp_path / "one", vocabulary_size=60, text_field="text")
    train_tokenizer([text_file], tmp_path / "two", vocabulary_size=60, text_field="text")
    one, two = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("one", "two"))
    assert one.get_vocab() == two.get_vocab()
    assert len(one) <= 60


def test_training_needs_text_and_room(tmp_path: Path, text_file: Path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(CorpusError, match="no text in .*a.txt"):
        train_tokenizer([tmp_path / "a.txt"], tmp_path / "out", vocabulary_size=60, text_field="text")
    with pytest.raises(CorpusError, match="vocabulary_size=5 leaves no room"):
        train_tokenizer([text_file], tmp_path / "out", vocabulary_size=5, text_field="text")
