"""Text files become tokenised rows: the same for every format and number of workers, with no token lost."""

import gzip
import json
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import jieba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kd_dist import corpus
from kd_dist.corpus import CorpusError, SeenHashes, TextStatistics

WORDS = ["今天", "天气", "很好", "我们", "公园", "研究", "语言", "模型", "知识", "蒸馏", "学生", "老师", "北京", "大学"]
WORDS += ["快速", "训练", "test", "model", "small", "v2"]
DOCUMENTS = [
    ["今天天气很好。我们去公园!", "知识蒸馏训练学生模型。"],
    ["老师很好?"],
    ["Small models train fast. Yes!", "北京大学"],
]


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
    documents = folder / "documents.txt"
    documents.write_text("\n".join(line for document in DOCUMENTS for line in document), encoding="utf-8")
    corpus.train_tokenizer([text_file, documents], folder / "bert", vocabulary_size=200, text_field="text")
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


@pytest.fixture
def arguments(text_file: Path, tokenizer_dir: str) -> dict:
    return {
        "files": [text_file],
        "tokenizer_path": tokenizer_dir,
        "max_length": 32,
        "pack": True,
        "text_field": "text",
        "word_starts": False,
        "validation_fraction": 0.1,
        "num_workers": 1,
    }


def read_blocks(*files: Path, text_field: str = "text") -> tuple[list[list[str]], TextStatistics]:
    statistics = TextStatistics()
    return list(corpus.blocks(files, text_field, statistics)), statistics


def rows_of(folder: Path, split: str = "train") -> list[list[int]]:
    return load_from_disk(str(folder / split))["input_ids"][:]


def write_compressed(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


# ------------------------------------------------------------------------------------------------------------ reading


def test_importing_is_cheap():
    code = (
        "import sys, kd_dist.corpus; print({'torch', 'transformers', 'datasets', 'pyarrow', 'jieba'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_every_format_gives_the_same_documents(tmp_path: Path):
    texts = ["今天天气很好。", "Ⅷ级 full-width ＡＢＣ", "第三篇"]
    text, unknown, lines, table = (tmp_path / name for name in ("a.txt", "b.text", "c.jsonl", "d.parquet"))
    text.write_text("\n\n".join(texts), encoding="utf-8")
    unknown.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(texts).encode() + b"\r\n")
    lines.write_text("".join(json.dumps({"id": 1, "text": t}) + "\n" for t in texts), encoding="utf-8")
    pq.write_table(pa.table({"id": [1, 2, 3], "text": texts}), table)
    json_file = tmp_path / "e.json"
    json_file.write_bytes(lines.read_bytes())
    files = [text, unknown, lines, table, json_file]
    expected = [["今天天气很好。"], ["VIII级 full-width ABC"], ["第三篇"]]
    for file in files + [write_compressed(file) for file in files]:
        found, statistics = read_blocks(file)
        assert found == expected, file
        assert (statistics.lines_kept, statistics.documents) == (3, 3), file


def test_a_null_in_a_table_is_an_empty_line(tmp_path: Path):
    pq.write_table(pa.table({"text": ["一", None, "二"]}), tmp_path / "a.parquet")
    found, statistics = read_blocks(tmp_path / "a.parquet")
    assert found == [["一"], ["二"]]
    assert statistics.lines_empty == 1


def test_find_files_expands_globs_and_folders_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("b.txt", "a.txt", "sub/c.jsonl.gz", "sub/d.parquet", "sub/picture.png", "e.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert corpus.find_files(["*.txt", "sub", "e.log", str(tmp_path / "a.txt")]) == [
        Path(name) for name in ("a.txt", "b.txt", "sub/c.jsonl.gz", "sub/d.parquet", "e.log")
    ]


def test_find_files_names_every_bad_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "good.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError) as error:
        corpus.find_files(["good.txt", "*.jsonl", "empty", "missing.txt"])
    for name in ("'*.jsonl'", "'empty'", "'missing.txt'", str(tmp_path)):
        assert name in str(error.value)
    assert "good.txt" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.txt",
            "好\n天气".encode() + "很好".encode("gb18030"),
            "line 2: not UTF-8 text (byte 0xba at column 3); convert",
        ),
        (
            "a.txt",
            "好".encode("utf-16"),
            "line 1: not UTF-8 text (byte 0xff at column 1); convert it with `iconv -f UTF-16",
        ),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": ', "line 3: not JSON"),
        ("a.json", b'[{"text": "a"}]', "line 1: a JSON list; every line must be one whole JSON object"),
        ("a.jsonl", b'{"title": "a", "body": "b"}', "line 1: no field 'text'; the fields are title, body"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 3}', "line 2: the field 'text' holds int"),
        ("a.txt.gz", gzip.compress(os.urandom(5000).hex().encode())[:-3000], "damaged or truncated gzip"),
        ("a.txt.gz", b"plain text", "damaged or truncated gzip"),
        ("a.parquet", b"plain text, long enough", "not a readable parquet file"),
    ],
)
def test_bad_input_names_file_and_line(tmp_path: Path, name: str, content: bytes, expected: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError) as error:
        list(corpus.read_lines(tmp_path / name))
    assert str(error.value).startswith(str(tmp_path / name))
    assert expected in str(error.value)


def test_bad_parquet_field_and_type_are_named(tmp_path: Path):
    pq.write_table(pa.table({"title": ["a"], "size": [1]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a.parquet, line 1: no field 'text'; the fields are title, size"):
        list(corpus.read_lines(tmp_path / "a.parquet"))
    with pytest.raises(CorpusError, match=r"a.parquet, line 1: the field 'size' holds int"):
        list(corpus.read_lines(tmp_path / "a.parquet", "size"))


# ------------------------------------------------------------------------------------------ cleaning, blocks, sentences


def test_clean_folds_and_removes():
    assert corpus.clean("\ufeff Ａ１\u3000①\t好\u200b的\x00，\r\n\ud800x\u00ad  ") == "A1 1 好的, x"


def test_the_invisible_characters_are_the_unicode_categories():
    for character in map(chr, range(0x110000)):
        category = unicodedata.category(character)
        if category != "Cn":  # not assigned in this Python's Unicode version, perhaps in a later one
            invisible = category in ("Cc", "Cf", "Cs") and not character.isspace()
            assert bool(corpus._INVISIBLE.match(character)) == invisible, hex(ord(character))


@given(st.text())
@settings(deadline=None, max_examples=200)
def test_clean_twice_is_clean_once(text: str):
    once = corpus.clean(text)
    assert corpus.clean(once) == once
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
    assert corpus.split_sentences(text) == expected


@given(st.text(alphabet='a.。!?;…"”) 好\n', max_size=60))
@settings(deadline=None, max_examples=200)
def test_sentences_join_to_the_text(text: str):
    sentences = corpus.split_sentences(text)
    assert "".join(sentences) == text
    assert all(sentences)


def test_duplicates_and_borders_are_counted(tmp_path: Path):
    (tmp_path / "a.txt").write_text("一\n二\n一\n \n\n三\nＡ\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("A\n四\n\n二\n", encoding="utf-8")
    found, statistics = read_blocks(tmp_path / "a.txt", tmp_path / "b.txt")
    assert found == [["一", "二"], ["三", "A"], ["四"]]
    assert statistics == TextStatistics(
        lines_read=11, lines_empty=3, lines_duplicate=3, lines_kept=5, characters=5, documents=3
    )


def test_blocks_are_bounded_but_keep_a_long_line(tmp_path: Path):
    lines = (
        [f"第{number}行" for number in range(300)]
        + ["长" * 10_000 + str(number) for number in range(5)]
        + ["巨" * 50_000]
    )
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    found, statistics = read_blocks(tmp_path / "a.txt")
    assert [len(block) for block in found] == [256, 46, 2, 1, 1]
    assert [line for block in found for line in block] == lines
    assert statistics.documents == 1


def test_seen_hashes_agree_with_a_set():
    rng = random.Random(1)
    seen, expected = SeenHashes(newest_size=50), set()
    for _ in range(60):
        texts = [str(rng.randrange(3000)) for _ in range(rng.randrange(80))]
        fresh = []
        for text in texts:
            fresh.append(text not in expected)
            expected.add(text)
        assert seen.unseen(texts) == fresh
    assert sum(map(len, seen._runs)) + len(seen._newest) == len(expected)
    assert len(seen._runs) < 8


# ------------------------------------------------------------------------------------------------------- tokenisation

LINES = st.lists(
    st.text(alphabet="今天气很好我们去公园abc12 .。!;,𠀀", min_size=1, max_size=120).map(corpus.clean).filter(bool),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("kind", ["tokenizer", "sentence_piece"])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_packing_loses_no_token_and_never_exceeds_max_length(request: pytest.FixtureRequest, kind: str, data):
    tokenizer, lines, max_length = request.getfixturevalue(kind), data.draw(LINES), data.draw(st.integers(3, 40))
    rows = corpus.tokenise_block(lines, tokenizer, max_length, pack=True, word_starts=True)
    for row in rows:
        ids = row["input_ids"]
        assert 2 < len(ids) <= max_length
        assert len(row["word_starts"]) == len(ids)
        assert [ids[0], ids[-1]] == tokenizer("")["input_ids"]
    expected = [token for line in lines for token in tokenizer(line, add_special_tokens=False)["input_ids"]]
    assert [token for row in rows for token in row["input_ids"][1:-1]] == expected


def test_packing_cuts_at_sentences_and_only_long_sentences_inside(tokenizer):
    rows = corpus.tokenise_block(
        ["我们。天气。", "今天天气很好我们去公园", "好"], tokenizer, 8, pack=True, word_starts=False
    )
    decoded = [tokenizer.decode(row["input_ids"][1:-1]).replace(" ", "") for row in rows]
    assert decoded == ["我们。天气。", "今天天气很好", "我们去公园好"]


def test_without_packing_a_line_is_a_row(tokenizer):
    rows = corpus.tokenise_block(["好", "今天天气很好"], tokenizer, 6, pack=False, word_starts=False)
    assert [row["truncated"] for row in rows] == [False, True]
    assert [row["input_ids"] for row in rows] == tokenizer(["好", "今天天气很好"], truncation=True, max_length=6)[
        "input_ids"
    ]


def test_word_starts_agree_with_jieba(tokenizer):
    line = "今天天气很好,我们去北京大学 train v2。"
    (row,) = corpus.tokenise_block([line], tokenizer, 64, pack=False, word_starts=True)
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
        corpus.tokenise_block(["好"], tokenizer, 2, pack=True, word_starts=False)


# -------------------------------------------------------------------------------------------------------- preparation


def test_prepare_is_the_same_for_any_number_of_workers(
    tmp_path: Path, arguments: dict, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(corpus, "MAX_UNIT_LINES", 20)  # several units, so that several workers have something to do
    arguments["word_starts"] = True
    one = corpus.prepare(output_dir=tmp_path / "one", **arguments)
    three = corpus.prepare(output_dir=tmp_path / "three", **{**arguments, "num_workers": 3})
    assert {**one, "seconds": 0} == {**three, "seconds": 0}
    for split in ("train", "validation"):
        first, second = (load_from_disk(str(tmp_path / name / split)) for name in ("one", "three"))
        assert first[:] == second[:]
        lengths = np.load(tmp_path / "one" / f"{split}_lengths.npy", mmap_mode="r")
        assert lengths.dtype == np.uint16
        assert lengths.tolist() == [len(ids) for ids in first["input_ids"]]
        assert str(first.features["input_ids"].feature.dtype) == "int32"


def test_no_row_crosses_a_document(tmp_path: Path, arguments: dict, tokenizer):
    file = tmp_path / "documents.txt"
    file.write_text("\n\n".join("\n".join(lines) for lines in DOCUMENTS), encoding="utf-8")
    arguments |= {"files": [file], "validation_fraction": 0, "max_length": 64}
    statistics = corpus.prepare(output_dir=tmp_path / "out", **arguments)
    assert statistics["documents"] == statistics["rows"] == 3
    expected = [tokenizer(lines, add_special_tokens=False)["input_ids"] for lines in DOCUMENTS]
    assert [row[1:-1] for row in rows_of(tmp_path / "out")] == [sum(ids, []) for ids in expected]
    assert rows_of(tmp_path / "out", "validation") == []
    assert len(np.load(tmp_path / "out" / "validation_lengths.npy", mmap_mode="r")) == 0


def test_the_validation_rows_are_every_tenth_and_no_others(tmp_path: Path, arguments: dict, tokenizer):
    arguments["pack"] = False
    everything = corpus.prepare(output_dir=tmp_path / "all", **{**arguments, "validation_fraction": 0})
    statistics = corpus.prepare(output_dir=tmp_path / "split", **arguments)
    rows = rows_of(tmp_path / "all")
    assert rows_of(tmp_path / "split", "validation") == rows[9::10]
    assert rows_of(tmp_path / "split") == [row for number, row in enumerate(rows) if number % 10 != 9]
    assert statistics["train_rows"] + statistics["validation_rows"] == everything["rows"] == everything["lines_kept"]
    assert statistics["tokens"] == everything["tokens"] == sum(map(len, rows))
    lines = [line for block in read_blocks(*arguments["files"])[0] for line in block]
    assert statistics["truncated_rows"] == sum(len(ids) > 32 for ids in tokenizer(lines)["input_ids"]) > 0
    assert statistics["length_percentiles"]["50"] == np.percentile([len(r) for r in rows], 50, method="inverted_cdf")


@pytest.mark.parametrize(
    ("num_rows", "fraction", "expected"), [(1, 0.5, 0), (2, 0.01, 1), (100, 0.01, 1), (100, 0.9, 50), (100, 0, 0)]
)
def test_the_size_of_validation(num_rows: int, fraction: float, expected: int):
    assert num_rows // corpus._validation_period(num_rows, fraction) == expected


def test_statistics_and_tokenizer_are_saved(tmp_path: Path, arguments: dict, tokenizer):
    statistics = corpus.prepare(output_dir=tmp_path / "out", **arguments)
    assert json.loads((tmp_path / "out" / "statistics.json").read_text()) == statistics
    assert (statistics["pad_token_id"], statistics["vocabulary_size"]) == (0, len(tokenizer))
    saved = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    assert saved.get_vocab() == tokenizer.get_vocab()
    assert sorted(os.listdir(tmp_path / "out")) == [
        "statistics.json", "tokenizer", "train", "train_lengths.npy", "validation", "validation_lengths.npy"
    ]  # fmt: skip


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_prepare_leaves_nothing(tmp_path: Path, arguments: dict, monkeypatch, failure: BaseException):
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(corpus, "_write_split", fail)
    with pytest.raises(type(failure)):
        corpus.prepare(output_dir=tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []
    assert "TOKENIZERS_PARALLELISM" not in os.environ


def test_bad_lines_and_empty_files_leave_nothing(tmp_path: Path, arguments: dict):
    file = tmp_path / "a.txt"
    for content, message in [
        (b"\n \n", r"no text in .*a.txt \(2 lines read"),
        (b"ok\n\xff", "a.txt, line 2: not UTF-8"),
    ]:
        file.write_bytes(content)
        with pytest.raises(CorpusError, match=message):
            corpus.prepare(output_dir=tmp_path / "out", **{**arguments, "files": [file]})
        assert list(tmp_path.iterdir()) == [file]


def test_prepare_refuses_a_bad_tokenizer_and_an_existing_output(tmp_path: Path, arguments: dict):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=f"no tokenizer can be loaded from {tmp_path}/empty"):
        corpus.prepare(output_dir=tmp_path / "out", **{**arguments, "tokenizer_path": str(tmp_path / "empty")})
    with pytest.raises(CorpusError, match="max_length=2 leaves no room"):
        corpus.prepare(output_dir=tmp_path / "out", **{**arguments, "max_length": 2})
    with pytest.raises(CorpusError, match="exists already"):
        corpus.prepare(output_dir=tmp_path / "empty", **arguments)


# -------------------------------------------------------------------------------------------------------------- cache


def test_the_cache_is_reused_until_a_file_changes(tmp_path: Path, arguments: dict):
    file, cache, link = tmp_path / "a.txt", tmp_path / "cache", tmp_path / "runs" / "one" / "data"
    file.write_text("今天天气\n很好\n", encoding="utf-8")
    arguments["files"] = [file]
    first = corpus.cached_prepare(cache, link, **arguments)
    again = corpus.cached_prepare(cache, link, **{**arguments, "num_workers": 2})
    assert (first["cached"], again["cached"]) == (False, True)
    assert {**first, "cached": True} == again
    assert not os.path.isabs(os.readlink(link))
    before = link.resolve()
    file.write_text("今天天气\n很好\n我们\n", encoding="utf-8")
    changed = corpus.cached_prepare(cache, link, **arguments)
    assert (changed["cached"], changed["lines_kept"]) == (False, 3)
    assert link.resolve() != before
    assert before.exists()
    assert sorted(os.listdir(link.parent)) == ["data"]
    assert len(os.listdir(cache)) == 2


def test_the_cache_spares_what_is_not_a_link(tmp_path: Path, arguments: dict):
    (tmp_path / "data").mkdir()
    with pytest.raises(CorpusError, match="data is not a link"):
        corpus.cached_prepare(tmp_path / "cache", tmp_path / "data", **arguments)


def test_the_fingerprint_follows_content_not_place(tmp_path: Path, text_file: Path, tokenizer_dir: str):
    import shutil

    file = Path(shutil.copy2(text_file, tmp_path / text_file.name))
    folder = shutil.copytree(tokenizer_dir, tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"weights do not matter")
    reference = corpus.fingerprint(files=[text_file], tokenizer_path=tokenizer_dir, max_length=8, num_workers=1)
    assert corpus.fingerprint(files=[file], tokenizer_path=str(folder), max_length=8, num_workers=2) == reference
    assert corpus.fingerprint(files=[file], tokenizer_path=str(folder), max_length=9) != reference
    (folder / "tokenizer.json").write_text("{}")
    assert corpus.fingerprint(files=[file], tokenizer_path=str(folder), max_length=8) != reference


# ---------------------------------------------------------------------------------------------------------- tokenizer


def test_the_trained_tokenizer_is_bert_with_single_characters(tokenizer, tokenizer_dir: str):
    assert tokenizer.convert_tokens_to_ids(corpus.SPECIAL_TOKENS) == [0, 1, 2, 3, 4]
    assert tokenizer.tokenize("今天TEST") == ["今", "天", "test"]
    assert tokenizer("今天")["input_ids"][0] == tokenizer.cls_token_id
    assert type(tokenizer).__name__.startswith("BertTokenizer")


def test_training_twice_gives_the_same_vocabulary(tmp_path: Path, text_file: Path, tokenizer):
    corpus.train_tokenizer([text_file], tmp_path / "one", vocabulary_size=60, text_field="text")
    corpus.train_tokenizer([text_file], tmp_path / "two", vocabulary_size=60, text_field="text")
    one, two = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("one", "two"))
    assert one.get_vocab() == two.get_vocab()
    assert len(one) <= 60


def test_training_needs_text_and_room(tmp_path: Path, text_file: Path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(CorpusError, match="no text in .*a.txt"):
        corpus.train_tokenizer([tmp_path / "a.txt"], tmp_path / "out", vocabulary_size=60, text_field="text")
    with pytest.raises(CorpusError, match="vocabulary_size=5 leaves no room"):
        corpus.train_tokenizer([text_file], tmp_path / "out", vocabulary_size=5, text_field="text")
