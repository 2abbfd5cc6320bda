"""Data augmentation: what may replace what, batched as published one by one, and shards that survive anything."""

import functools
import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_from_disk
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from benchmarks import augmentation
from kd_dist.augmentation import augmenter, blocks, word_vectors
from kd_dist.augmentation.candidates import Candidates
from kd_dist.augmentation.filter import Confidence
from kd_dist.augmentation.masked_words import MaskedWords, Place, logits_at
from kd_dist.augmentation.sources import Sources
from kd_dist.augmentation.word_vectors import WordVectors
from kd_dist.augmentation.words import Word, kind_of, split_words
from kd_dist.config.model_folders import has_classifier_head, has_language_model_head
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.augmentation import Augment
from kd_dist.config.sections.data import LabelledData
from kd_dist.config.stages import AugmentedStage, AugmentStage
from kd_dist.data import labelled
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizers import train_tokenizer
from kd_dist.errors import RunError
from tests.conftest import TinyWorld
from tests.stages import run_entry

CPU = torch.device("cpu")
ROWS = 150
BLOCK = 32


class World(NamedTuple):
    tokens: Path
    pairs: Path
    mlm: Path
    encoder: Path
    classifier: Path
    vectors: Path


@pytest.fixture(scope="session")
def world(tiny: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("augment")
    text = "".join(tiny.corpus.read_text(encoding="utf-8").split())
    texts = [text[start : start + 24] for start in range(0, 24 * 2 * (ROWS + 60), 24)]
    files = {name: root / name for name in ("train.tsv", "validation.tsv", "pairs.tsv")}
    files["train.tsv"].write_text("".join(f"{i % 3}\t{t}\n" for i, t in enumerate(texts[:ROWS])), "utf-8")
    files["validation.tsv"].write_text(
        "".join(f"{i % 3}\t{t}\n" for i, t in enumerate(texts[ROWS : ROWS + 30])), "utf-8"
    )
    couples = zip(texts[: ROWS // 3], texts[ROWS : ROWS + ROWS // 3], strict=True)
    files["pairs.tsv"].write_text("".join(f"{i % 2}\t{a}\t{b}\n" for i, (a, b) in enumerate(couples)), "utf-8")
    settings: dict[str, Any] = {"max_length": 48, "num_workers": 1, "validation": [str(files["validation.tsv"])]}
    data = LabelledData(train=[str(files["train.tsv"])], **settings)
    labelled.prepare(data, str(tiny.tokenizer), root / "tokens", root / "train.txt")
    columns = {"columns": ["label", "text", "text_pair"], "max_length": 64, "num_workers": 1}
    data = LabelledData(train=[str(files["pairs.tsv"])], **columns)
    labelled.prepare(data, str(tiny.tokenizer), root / "pairs", root / "pairs.txt")
    _write_models(root, tiny.tokenizer)
    _write_vectors(root / "vectors.txt", texts)
    return World(*(root / name for name in ("tokens", "pairs", "mlm", "encoder", "classifier", "vectors.txt")))


def _write_models(root: Path, tokenizer_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, initializer_range=0.3, **sizes)
    torch.manual_seed(3)
    for name, model in {
        "mlm": BertForMaskedLM(config),
        "encoder": BertModel(config),
        "classifier": BertForSequenceClassification(BertConfig(**config.to_diff_dict() | {"num_labels": 3})),
    }.items():
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)


def _write_vectors(path: Path, texts: list[str]) -> None:
    """Vectors of so few dimensions that every word has near ones."""
    words = list(dict.fromkeys(word.text for text in texts for word in split_words(text, "zh")))
    vectors = np.random.default_rng(0).standard_normal((len(words), 4))
    lines = [f"{word} {' '.join(map(str, vector))}" for word, vector in zip(words, vectors.tolist(), strict=True)]
    path.write_text("\n".join([f"{len(words)} 4", *lines]) + "\n", encoding="utf-8")


@pytest.fixture
def stage_of(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the folder of an augment stage over little blocks."""
    monkeypatch.setattr("kd_dist.augmentation.blocks.BLOCK_ROWS", BLOCK)

    def write(
        name: str = "augment",
        *,
        encoder: Path = world.encoder,
        teacher: Path | None = None,
        tokens: Path = world.tokens,
        shards: int = 1,
        **settings: Any,
    ) -> Path:
        settings = {"copies": 4, "candidates": 6, "word_vectors": str(world.vectors)} | settings
        stage = AugmentStage(
            encoder={"path": str(encoder)},
            teacher={"path": teacher and str(teacher)},
            data={"tokens": str(tokens)},
            augment=settings,
            resources={"shards": shards},
        )
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
        return tmp_path / name

    return write


def _blocks(stage_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((stage_dir / "shards").glob("block_*.parquet"))}


def _rows(stage_dir: Path) -> list[dict[str, Any]]:
    blocks = sorted((stage_dir / "shards").glob("block_*.parquet"))
    return [row for path in blocks for row in pq.read_table(path).to_pylist()]


# ---------------------------------------------------------------------------------------------------------------- words


def _replaceable(text: str, language: Any = "zh") -> list[str]:
    return [word.text for word in split_words(text, language) if word.kind]


def test_words_join_to_the_text(tiny):
    for line in [*tiny.corpus.read_text(encoding="utf-8").splitlines()[:50], "a  b　c\td《未完"]:
        assert "".join(word.text for word in split_words(line, "zh")) == line
        assert "".join(word.text for word in split_words(line, "en")) == line


def test_names_numbers_function_words_and_titles_stay():
    assert _replaceable("国际油价4日继续下跌") == ["国际", "油价", "继续", "下跌"]
    assert _replaceable("北京的iPhone不是3000元") == []
    assert _replaceable("毛泽东没有来") == []
    assert _replaceable("电影《红楼梦幻游戏》上映") == ["电影", "上映"]


def test_a_candidate_is_of_the_kind_of_the_word():
    assert kind_of("电影", "zh") == kind_of("音乐", "zh") != kind_of("参加", "zh")
    assert kind_of("北京", "zh") is kind_of("movie", "zh") is kind_of("的", "zh") is kind_of("鑫旮旯", "zh") is None


def test_english_words_as_published():
    assert _replaceable("The movie isn't great, 3d-films", "en") == ["movie", "great", "films"]
    assert kind_of("film", "en") == "word"
    assert kind_of("Film", "en") is kind_of("the", "en") is kind_of("##s", "en") is None


# --------------------------------------------------------------------------------------------------------- word vectors


def _vectors(path: Path, keep: Callable[[str], bool] = bool) -> WordVectors:
    return WordVectors(str(path), keep, CPU)


def _as(path: Path, how: str, folder: Path) -> Path:
    from gensim.models import KeyedVectors

    target = folder / f"vectors_{how}"
    if how == "no_header":
        target.write_text(path.read_text(encoding="utf-8").split("\n", 1)[1], encoding="utf-8")
    elif how == "gz":
        target = target.with_suffix(".txt.gz")
        target.write_bytes(gzip.compress(path.read_bytes()))
    elif how == "binary":
        KeyedVectors.load_word2vec_format(str(path)).save_word2vec_format(str(target), binary=True)
    return target


@pytest.mark.parametrize("how", ["no_header", "gz", "binary"])
def test_every_form_of_a_word2vec_file_is_read(world, tmp_path, how):
    expected, found = _vectors(world.vectors), _vectors(_as(world.vectors, how, tmp_path))
    words = ["工作", "国家", "经济"]
    assert found.near(words, 5) == expected.near(words, 5)
    assert any(found.near(words, 5).values())


def test_nearest_words_by_centred_cosine(world):
    lines = world.vectors.read_text(encoding="utf-8").splitlines()[1:]
    words = [line.split(" ")[0] for line in lines]
    vectors = np.array([line.split(" ")[1:] for line in lines], dtype=np.float64)
    vectors -= vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors[words.index("国家")] @ vectors.T
    order = [index for index in np.argsort(-cosine) if words[index] != "国家" and len(words[index]) > 1]
    expected = [words[index] for index in order if cosine[index] >= word_vectors.MIN_COSINE][:7]
    assert _vectors(world.vectors, lambda word: len(word) > 1).near(["国家"], 7)["国家"] == expected


def test_neighbours_do_not_depend_on_what_else_is_asked(world, monkeypatch):
    monkeypatch.setattr(word_vectors, "CHUNK", 7)
    words = [line.split(" ")[0] for line in world.vectors.read_text(encoding="utf-8").splitlines()[1:200]]
    together = _vectors(world.vectors).near(words, 9)
    alone = {word: _vectors(world.vectors).near([word], 9)[word] for word in words[::40]}
    assert {word: together[word] for word in alone} == alone
    assert any(alone.values())
    assert _vectors(world.vectors).near(["龘龘"], 9) == {"龘龘": []}


@pytest.mark.parametrize(
    "content",
    [b"", b'{"a": 1}\n', b"3 4\nword 1 2 x 4\n", b"2 4\n\x80\x02binary", b"word one two\n", b"1 2\nword 1 nan\n"],
)
def test_a_file_that_is_not_word2vec_is_named(tmp_path, content):
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"augment\.word_vectors={path} is not a word2vec file"):
        _vectors(path)


# --------------------------------------------------------------------------------------------------------- masked words


@functools.cache
def _model(mlm: Path) -> tuple[Any, Any]:
    return AutoModelForMaskedLM.from_pretrained(mlm).eval(), AutoTokenizer.from_pretrained(mlm)


def _published(mlm: Path, sentence: list[list[int]], index: int, number: int) -> list[list[tuple[float, str]]]:
    """One forward pass for one word: the most probable pieces at each of its places, by all logits of the model."""
    model, tokenizer = _model(mlm)
    original = list(itertools.chain.from_iterable(sentence))
    start = sum(map(len, sentence[:index]))
    masked = list(original)
    masked[start : start + len(sentence[index])] = [tokenizer.mask_token_id] * len(sentence[index])
    first, second = [tokenizer.cls_token_id, *masked, tokenizer.sep_token_id], [*original, tokenizer.sep_token_id]
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([first + second]),
            token_type_ids=torch.tensor([[0] * len(first) + [1] * len(second)]),
        ).logits[0]
    found = []
    for position in range(start + 1, start + 1 + len(sentence[index])):
        scores = logits[position].log_softmax(-1)
        ids = scores.argsort(descending=True)[:number].tolist()
        pieces = [(float(scores[i]), tokenizer.convert_ids_to_tokens(i)) for i in ids]
        found.append([(s, p) for s, p in pieces if not p.startswith("##") and p not in tokenizer.all_special_tokens])
    return found


def test_a_batch_gives_what_one_forward_pass_for_each_word_gives(world):
    model = MaskedWords(str(world.mlm), "zh", CPU)
    texts = ["国家经济工作会议在北京举行", "今年的生产", "人民生活水平有了很大的提高和改善"]
    sentences = [model.encode([word.text for word in split_words(text, "zh")]) for text in texts]
    places = [Place(s, index) for s in sentences for index, word in enumerate(s) if len(word) <= 2]
    assert {len(place.pieces()) for place in places} == {1, 2}
    proposed = model.propose(places, 5, lambda place, word: True)
    for place, words in zip(places, proposed, strict=True):
        combined = itertools.product(*_published(world.mlm, [*place.sentence], place.word, 5))
        by_score = sorted(combined, key=lambda pieces: -sum(score for score, _ in pieces))
        assert words == ["".join(text for _, text in pieces) for pieces in by_score][:5]


def test_what_is_not_accepted_is_no_candidate(world):
    model = MaskedWords(str(world.mlm), "zh", CPU)
    place = Place(model.encode(["国家", "的", "人"]), 2)
    (every,) = model.propose([place], 6, lambda number, word: True)
    assert model.propose([place], 6, lambda number, word: word != every[0]) == [every[1:]]


def test_long_sentences_are_cut_around_the_word(world):
    model = MaskedWords(str(world.mlm), "zh", CPU)
    sentence = model.encode(["经"] * 500 + ["人"] + ["济"] * 500)
    window = model.encode(["经"] * 31 + ["人"] + ["济"] * 30)  # 128 positions: three special tokens and 2 x 62 pieces
    assert model.propose([Place(sentence, 500)], 5, lambda *_: True) == model.propose(
        [Place(window, 31)], 5, lambda *_: True
    )


def test_a_word_of_the_vocabulary_is_one_piece(world, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(world.mlm)
    vocabulary = tokenizer.get_vocab()
    vocabulary |= {"国家": len(vocabulary), "人民生活": len(vocabulary) + 1}
    model = BertForMaskedLM.from_pretrained(world.mlm)
    model.resize_token_embeddings(len(vocabulary))
    model.save_pretrained(tmp_path)
    type(tokenizer)(vocab=vocabulary).save_pretrained(tmp_path)
    words = MaskedWords(str(tmp_path), "zh", CPU).encode(["国家", "人民", " ", "ABC"])
    assert words[0] == [vocabulary["国家"]]
    assert [len(word) for word in words[:3]] == [1, 2, 0]


@pytest.mark.parametrize(
    ("model_class", "config_class"),
    [
        (BertForMaskedLM, BertConfig),
        (RobertaForMaskedLM, RobertaConfig),
        (ElectraForMaskedLM, ElectraConfig),
        (DistilBertForMaskedLM, DistilBertConfig),
    ],
)
def test_the_head_of_any_family_runs_at_the_chosen_places_alone(model_class, config_class):
    names = (
        ("dim", "n_layers", "n_heads", "hidden_dim"),
        ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    )
    sizes = dict(zip(names[config_class is not DistilBertConfig], (32, 2, 4, 64), strict=True))
    model = model_class(config_class(vocab_size=50, **sizes)).eval()
    ids, chosen = torch.randint(5, 50, (3, 9)), torch.rand(3, 9) < 0.4
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        found = logits_at(model, inputs, chosen)
        torch.testing.assert_close(found, model(**inputs).logits[chosen])


def test_heads_are_seen_without_loading(world, tmp_path):
    assert has_language_model_head(str(world.mlm))
    assert not has_language_model_head(str(world.encoder))
    assert not has_language_model_head(str(world.classifier))
    assert has_language_model_head("google-bert/bert-base-chinese")
    assert has_classifier_head(str(world.classifier))
    assert not has_classifier_head(str(world.mlm))
    shutil.copytree(world.mlm, tmp_path / "bare")
    config = json.loads((tmp_path / "bare" / "config.json").read_text(encoding="utf-8")) | {"architectures": None}
    (tmp_path / "bare" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert has_language_model_head(str(tmp_path / "bare"))  # by its weights


# ----------------------------------------------------------------------------------------------------------- candidates


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
    assert _replaceable(text) == ["国家", "经济", "工作", "人心"]
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


# --------------------------------------------------------------------------------------------------------------- copies


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
    rows = _rows(stage_dir)
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
    assert _rows(few) == [row for row in _rows(many) if row["copy"] <= 2]


def test_each_text_of_a_pair_changes_beside_the_original_other(world, stage_of):
    stage_dir = stage_of(tokens=world.pairs, copies=3)
    run_entry(stage_dir)
    source = load_from_disk(str(world.pairs / "train"))
    changed = {"text": 0, "text_pair": 0}
    for row in _rows(stage_dir):
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
    texts = {row["text"].rsplit(" ", 1)[0] for row in _rows(stage_dir)}
    expected = itertools.product(("Great", "good"), ("film", "movie"))
    assert texts == {f"A {adjective} {noun}, isn't it?" for adjective, noun in expected}


# --------------------------------------------------------------------------------------------------------------- window


@pytest.fixture
def long_rows(tiny: TinyWorld, tmp_path: Path) -> Callable[..., Path]:
    """Labelled rows of these texts, seen through a window of 24 tokens."""

    def prepare(*texts: str, tokenizer: Path = tiny.tokenizer, held_out: str = "国家", **settings: Any) -> Path:
        for name, contents in (("train", texts), ("validation", [held_out])):
            lines = [f"{number % 2}\t{text}\n" for number, text in enumerate(contents)]
            (tmp_path / f"long_{name}.tsv").write_text("".join(lines), encoding="utf-8")
        files = {name: [str(tmp_path / f"long_{name}.tsv")] for name in ("train", "validation")}
        data = LabelledData(max_length=24, num_workers=1, **files, **settings)
        labelled.prepare(data, str(tokenizer), tmp_path / "long", tmp_path / "long.txt")
        return tmp_path / "long"

    return prepare


def test_copies_end_where_training_sees_no_more(world, stage_of, collected_of, long_rows):
    text = "国家经济工作会议在北京举行人民生活水平有了很大的提高和改善" * 20
    english = "国家 the movie economy " * 40  # several tokens to a word, several characters to a token
    tokens = long_rows(text, english, "国家经济")
    stage_dir = stage_of(tokens=tokens)
    run_entry(stage_dir)
    rows = _rows(stage_dir)
    originals = [row["text"] for row in rows if not row["copy"]]
    assert originals == [text, english.strip(), "国家经济"]
    preprocessing, tokenizer = Preprocessing.load(tokens), AutoTokenizer.from_pretrained(world.mlm)
    for number, original in enumerate(originals[:2]):
        seen = augmenter.Window(PreparedRows(tokens))(original)
        assert len(tokenizer.tokenize(seen)) == 24
        assert original.startswith(seen)
        assert preprocessing.encode(tokenizer, [seen]) == preprocessing.encode(tokenizer, [original])
        copies = [row["text"] for row in rows if row["row"] == number and row["copy"]]
        assert len(copies) > 2
        assert all(len(copy) < len(seen) + 10 for copy in copies)  # another word may be longer
    collected = collected_of(stage_dir / "shards", tokens)
    run_entry(collected)
    train = load_from_disk(str(collected / "tokens" / "train"))
    assert train["text"][:] == [row["text"] for row in rows]
    assert max(map(len, train["input_ids"])) == 24


def test_the_window_is_as_wide_as_the_words_of_the_vocabulary(world, tmp_path, long_rows):
    vocabulary = AutoTokenizer.from_pretrained(world.mlm).get_vocab()
    words = [word for word in ("国家", "经济", "工作", "人民") if word not in vocabulary]
    vocabulary |= {word: len(vocabulary) + number for number, word in enumerate(words)}
    type(AutoTokenizer.from_pretrained(world.mlm))(vocab=vocabulary).save_pretrained(tmp_path / "words")
    text = " 国家经济工作人民" * 50
    for segment, expected in (("word", 24), ("none", 12), ("char", 12)):
        tokens = long_rows(text, text, tokenizer=tmp_path / "words", segment=segment)
        seen = augmenter.Window(PreparedRows(tokens))(text.strip())
        preprocessing, tokenizer = Preprocessing.load(tokens), AutoTokenizer.from_pretrained(tokens / "tokenizer")
        assert len(seen.replace(" ", "")) == 2 * expected
        assert preprocessing.encode(tokenizer, [seen]) == preprocessing.encode(tokenizer, [text])
        assert augmenter.Window(PreparedRows(tokens))("国家 经济") == "国家 经济"


def test_a_million_characters_cost_what_a_row_costs(world, stage_of, long_rows):
    endless = "国家经济工作会议在北京举行，" * (1_000_000 // 14)
    tokens = long_rows(endless, "国家经济", "x" * 1_000_000)
    stage_dir = stage_of(tokens=tokens, mlm_path=str(world.mlm), multi_piece="mask", word_vectors=None)
    run_entry(stage_dir)
    rows = _rows(stage_dir)
    (block,) = (stage_dir / "shards").glob("block_*.parquet")
    identity = blocks.identity_of(json.loads((stage_dir / "shards" / "manifest.json").read_text(encoding="utf-8")))
    assert 0 < blocks.read_tally(block, identity)["words"] <= 24
    assert max(len(row["text"]) for row in rows if row["copy"]) <= 24  # a mask for each piece: as long as they were
    assert len(rows[0]["text"]) > 990_000


def test_a_pair_is_cut_text_by_text(stage_of, long_rows):
    first, second = "国家经济工作会议" * 30, "人民生活水平"
    columns = ["label", "text", "text_pair"]
    tokens = long_rows(f"{first}\t{second}", f"{second}\t{first}", held_out="国家\t经济", columns=columns)
    stage_dir = stage_of(tokens=tokens)
    run_entry(stage_dir)
    copies = [row for row in _rows(stage_dir) if row["copy"]]
    assert len(copies) > 8
    assert max(len(row[name]) for row in copies for name in ("text", "text_pair")) < 24 + 10


# --------------------------------------------------------------------------------------------------------------- shards


def test_any_number_of_shards_writes_the_same_bytes(world, stage_of, monkeypatch):
    one, four = stage_of("one", mlm_path=str(world.mlm)), stage_of("four", mlm_path=str(world.mlm), shards=4)
    run_entry(one)
    for shard in (2, 0, 3, 1):
        run_entry(four, shard)
    assert len(_blocks(one)) == -(-load_from_disk(str(world.tokens / "train")).num_rows // BLOCK) == 5
    assert _blocks(four) == _blocks(one)


def test_what_is_there_is_kept_and_what_is_damaged_is_written_again(world, stage_of, capsys):
    stage_dir = stage_of()
    run_entry(stage_dir)
    expected = _blocks(stage_dir)
    folder = stage_dir / "shards"
    (folder / "block_00000001.parquet").write_bytes(expected["block_00000001.parquet"][:1000])
    flipped = bytearray(expected["block_00000002.parquet"])
    flipped[200] ^= 1
    (folder / "block_00000002.parquet").write_bytes(flipped)
    (folder / "block_00000003.parquet").write_bytes(b"")
    kept = folder / "block_00000000.parquet"
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    run_entry(stage_dir)
    assert "2 of 5 blocks are there" in capsys.readouterr().out
    assert _blocks(stage_dir) == expected
    assert kept.stat().st_mtime_ns == before
    run_entry(stage_dir)
    assert capsys.readouterr().out == "augment, shard 0: 5 of 5 blocks are there\n"


KILLED = """
import sys, time
from pathlib import Path
from kd_dist.augmentation import blocks, stage
from tests.stages import run_entry
blocks.BLOCK_ROWS = {block}
write = stage.write_block
def slowly(path, *rest):
    time.sleep(0.3)
    write(path, *rest)
stage.write_block = slowly
run_entry(Path(sys.argv[1]))
"""


def test_a_shard_that_was_killed_goes_on_where_it_was(stage_of):
    undisturbed, killed = stage_of("undisturbed"), stage_of("killed")
    run_entry(undisturbed)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(block=BLOCK), str(killed)], env=environment)
    deadline = time.monotonic() + 120
    while not (killed / "shards" / "block_00000001.parquet").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = _blocks(killed)
    assert 2 <= len(there) < 5
    (killed / "shards" / ".block_00000004.parquet.tmp").write_bytes(
        b"half of a bl"
    )  # what a kill during a write leaves
    run_entry(killed)
    assert _blocks(killed) == _blocks(undisturbed)
    assert not list((killed / "shards").glob(".block*"))


def test_blocks_of_other_settings_are_refused(stage_of):
    run_entry(stage_of())
    with pytest.raises(RunError, match=r"blocks of other settings or inputs \(augment.copies, augment.seed\)"):
        run_entry(stage_of(copies=5, seed=1))


# ---------------------------------------------------------------------------------------------------------- what to use


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"word_vectors": None}, r"no masked-language-model head. Set augment.mlm_path .* or augment.word_vectors"),
        ({"word_vectors": "/no/such.txt"}, r"augment.word_vectors=/no/such.txt: no such file"),
        ({"mlm_path": "ENCODER"}, r"augment.mlm_path=.*encoder has no masked-language-model head"),
        ({"multi_piece": "mask"}, r"augment.multi_piece=mask needs a masked language model: set augment.mlm_path"),
        ({"keep_confidence": 0.5}, r"augment.keep_confidence needs a classifier, and teacher.path=none is none"),
    ],
)
def test_settings_that_cannot_work_are_said_at_the_start(world, stage_of, settings, message):
    settings = {key: str(world.encoder) if value == "ENCODER" else value for key, value in settings.items()}
    stage_dir = stage_of(**settings)
    with pytest.raises(RunError, match=message):
        run_entry(stage_dir)
    assert not (stage_dir / "shards").exists()


def test_an_encoder_with_a_head_proposes_words_itself(world, stage_of):
    with_encoder, with_path = stage_of("encoder", encoder=world.mlm), stage_of("path", mlm_path=str(world.mlm))
    run_entry(with_encoder)
    run_entry(with_path)
    assert _rows(with_encoder) == _rows(with_path)


def test_only_copies_that_the_teacher_is_sure_of_are_kept(world, stage_of, capsys):
    settings = {"teacher": world.classifier, "copies": 6}
    everything, sure = stage_of("everything", **settings), stage_of("sure", **settings, keep_confidence=0.4)
    run_entry(everything)
    run_entry(sure)
    model = BertForSequenceClassification.from_pretrained(world.classifier).eval()
    preprocessing, tokenizer = Preprocessing.load(world.tokens), AutoTokenizer.from_pretrained(world.classifier)
    expected = []
    for row in _rows(everything):
        (encoding,) = preprocessing.encode(tokenizer, [row["text"]])
        with torch.no_grad():
            probability = model(input_ids=torch.tensor([encoding.input_ids])).logits.softmax(-1)[0, row["labels"]]
        if row["copy"] == 0 or probability >= 0.4:
            expected.append(row)
    assert _rows(sure) == expected
    assert ROWS < len(expected) < len(_rows(everything))
    assert f"{len(_rows(everything)) - len(expected):,} refused by the teacher" in capsys.readouterr().out


def test_a_teacher_that_names_its_labels_by_number_alone(world, stage_of, tmp_path):
    shutil.copytree(world.classifier, tmp_path / "named")
    config = json.loads((tmp_path / "named" / "config.json").read_text(encoding="utf-8"))
    config |= {"id2label": {"0": "2", "1": "0", "2": "1"}}
    config.pop("label2id", None)
    (tmp_path / "named" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    confidence = Confidence(str(tmp_path / "named"), PreparedRows(world.tokens), CPU)
    plain = Confidence(str(world.classifier), PreparedRows(world.tokens), CPU)
    rows = [("国家经济",), ("人民生活",), ("北京",)]
    assert confidence(rows, [2, 0, 1]).tolist() == plain(rows, [0, 1, 2]).tolist()


# -------------------------------------------------------------------------------------------------------------- collect


@pytest.fixture
def collected_of(tmp_path: Path) -> Callable[..., Path]:
    def write(shards: Path, tokens: Path) -> Path:
        stage = AugmentedStage(data={"tokens": str(tokens), "shards": str(shards), "num_workers": 2})
        (tmp_path / "augmented").mkdir(exist_ok=True)
        (tmp_path / "augmented" / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
        return tmp_path / "augmented"

    return write


@pytest.mark.parametrize("which", ["tokens", "pairs"])
def test_collected_rows_have_the_shape_of_the_data_they_came_from(world, stage_of, collected_of, which):
    tokens = getattr(world, which)
    stage_dir = stage_of(tokens=tokens)
    run_entry(stage_dir)
    collected = collected_of(stage_dir / "shards", tokens)
    run_entry(collected)
    run_entry(collected)  # again, over what is there
    output = collected / "tokens"
    assert {path.name for path in output.iterdir()} == {path.name for path in tokens.iterdir()}
    before, after = (load_from_disk(str(folder / "train")) for folder in (tokens, output))
    assert after.features == before.features
    rows = _rows(stage_dir)
    texts = [name for name in ("text", "text_pair") if name in before.column_names]
    assert [after[name][:] for name in (*texts, "labels")] == [
        [row[name] for row in rows] for name in (*texts, "labels")
    ]
    preprocessing, tokenizer = Preprocessing.load(output), AutoTokenizer.from_pretrained(output / "tokenizer")
    encodings = preprocessing.encode(tokenizer, *([row[name] for row in rows] for name in texts))
    assert after["input_ids"][:] == [encoding.input_ids for encoding in encodings]
    if "token_type_ids" in after.column_names:
        assert after["token_type_ids"][:] == [encoding.token_type_ids for encoding in encodings]
    lengths = [len(encoding.input_ids) for encoding in encodings]
    assert np.load(output / "train_lengths.npy").tolist() == lengths
    batch = TokenRows(output, "train", tokenizer.pad_token_id).collate(np.array([0, 1]))
    assert batch["input_ids"].shape[1] == max(lengths[:2])
    assert len(TokenRows(output, "validation", 0)) == len(TokenRows(tokens, "validation", 0))


def test_reports_count_what_became_of_the_rows(world, stage_of, collected_of):
    stage_dir = stage_of()
    run_entry(stage_dir)
    collected = collected_of(stage_dir / "shards", world.tokens)
    run_entry(collected)
    rows = _rows(stage_dir)
    read = {
        name: [
            json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            for folder in (world.tokens, collected / "tokens")
        ]
        for name in ("statistics", "data_report")
    }
    (old, new), (old_report, report) = read["statistics"], read["data_report"]
    assert new.keys() - old.keys() == {"augmentation"}
    assert old_report["train"].keys() == report["train"].keys()
    assert new["train_rows"] == report["train"]["rows"] == len(rows)
    assert new["validation_rows"] == old["validation_rows"]
    assert new["tokens"] == old["tokens"] - old_report["train"]["tokens"] + report["train"]["tokens"]
    assert report["train"]["labels"] == {str(n): sum(row["labels"] == n for row in rows) for n in range(3)}
    assert report["train"]["characters"] == sum(len(row["text"]) for row in rows)
    augmentation = new["augmentation"]
    assert augmentation["rows"] == old["train_rows"]
    assert augmentation["tried"] == 4 * augmentation["rows"] == len(rows) - augmentation["rows"] + augmentation["equal"]


def test_a_copy_that_stands_in_validation_is_left_out(world, stage_of, collected_of, tmp_path):
    shutil.copytree(world.tokens, tmp_path / "tokens", copy_function=shutil.copy2)
    stage_dir = stage_of(tokens=tmp_path / "tokens")
    run_entry(stage_dir)
    rows = _rows(stage_dir)
    leaked = next(row["text"] for row in rows if row["copy"])
    validation = load_from_disk(str(world.tokens / "validation"))
    replaced = validation.map(lambda row, index: {"text": leaked if index == 0 else row["text"]}, with_indices=True)
    shutil.rmtree(tmp_path / "tokens" / "validation")
    replaced.save_to_disk(tmp_path / "tokens" / "validation")
    collected = collected_of(stage_dir / "shards", tmp_path / "tokens")
    run_entry(collected)
    texts = load_from_disk(str(collected / "tokens" / "train"))["text"][:]
    assert texts == [row["text"] for row in rows if row["text"] != leaked]
    report = json.loads((collected / "tokens" / "data_report.json").read_text(encoding="utf-8"))
    assert report["augmentation"]["leaked"] == len(rows) - len(texts)


def test_missing_and_damaged_blocks_are_named(world, stage_of, collected_of):
    stage_dir = stage_of()
    run_entry(stage_dir)
    shards = stage_dir / "shards"
    collected = collected_of(shards, world.tokens)
    (shards / "block_00000001.parquet").unlink()
    (shards / "block_00000003.parquet").write_bytes(b"PAR1 and no more")
    message = r"block_00000001.parquet is missing, block_00000003.parquet is damaged .*; remove COMPLETE"
    with pytest.raises(RunError, match=message):
        run_entry(collected)
    run_entry(stage_dir)
    flipped = bytearray((shards / "block_00000002.parquet").read_bytes())
    flipped[200] ^= 1  # inside the data, where only reading it all can tell
    (shards / "block_00000002.parquet").write_bytes(flipped)
    with pytest.raises(RunError, match=r"block_00000002.parquet is damaged"):
        run_entry(collected)
    assert not (collected / "tokens").exists()
    assert not list(collected.glob(".tokens*"))


def test_shards_of_other_rows_are_refused(world, stage_of, collected_of):
    stage_dir = stage_of()
    run_entry(stage_dir)
    with pytest.raises(RunError, match="was not made from the rows in"):
        run_entry(collected_of(stage_dir / "shards", world.pairs))
    with pytest.raises(RunError, match=r"manifest.json cannot be read .* remove COMPLETE"):
        run_entry(collected_of(stage_dir / "nothing", world.tokens))


# ------------------------------------------------------------------------------------------------------------ benchmark


def test_the_benchmark_compares_two_forms_of_the_same_copies(world, tiny, tmp_path):
    titles = tmp_path / "titles.txt"
    sentences = tiny.corpus.read_text(encoding="utf-8").replace("，", "\n").replace("。", "\n").splitlines()
    titles.write_text("".join(f"{text}\t1\n" for text in sentences if 8 < len(text) < 20), encoding="utf-8")
    script, output = REPOSITORY / "benchmarks" / "augmentation.py", tmp_path / "result.json"
    command = [sys.executable, script, "--mlm", world.mlm, "--titles", titles, "--output", output]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*map(str, command), "--rows", "8", "--rounds", "2"], capture_output=True, text=True, env=environment
    )
    assert finished.returncode == 0, finished.stderr
    assert "in both forms" in finished.stdout
    result = json.loads(output.read_text(encoding="utf-8"))
    assert result["equal_copies"] > 0
    assert len(result["rounds"]) == 2
    assert result["ratio"]["lowest"] <= result["ratio"]["of_medians"] <= result["ratio"]["highest"]


def test_forms_that_differ_are_noticed():
    settings = Augment(copies=3, probability=1.0)
    forms = {
        name: lambda sentences, words=words: [{0: [words]} for _ in sentences]
        for name, words in (("published", "甲"), ("ours", "乙"))
    }
    with pytest.raises(RunError, match="different copies"):
        augmentation.check_equality(forms, ["国家经济"], settings)
    with pytest.raises(RunError, match="neither form makes a copy"):
        augmentation.check_equality(dict.fromkeys(forms, lambda sentences: [{} for _ in sentences]), ["国家"], settings)
