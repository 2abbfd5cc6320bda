"""What a folder's tokenizer knows, from its files, and whether a model can read its tokens."""

import json
from pathlib import Path

import pytest

from kd_dist.errors import UserError
from kd_dist.model_files.vocabularies import (
    added_tokens,
    embedding_problem,
    is_berts,
    needs_berts_class,
    read_vocabulary,
    reading_problem,
    require_tokenizer,
    tokenizer_notes,
)
from tests.model_folders import VOCABULARY, write_vocabulary

WORDS = [*VOCABULARY, *"天地玄黄"]


def folder(place: Path, name: str, words: list[str] | None = None, **config: object) -> Path:
    (place / name).mkdir()
    (place / name / "config.json").write_text(json.dumps({"model_type": "bert", **config}), encoding="utf-8")
    if words:
        write_vocabulary(place / name, words)
    return place / name


def test_the_kinds_of_vocabulary_files(tmp_path: Path):
    expected = dict(enumerate(WORDS))
    assert read_vocabulary(folder(tmp_path, "text", WORDS)) == expected
    ids = {word: number for number, word in expected.items()}
    added = [{"id": len(WORDS), "content": "[NEW]"}, {"id": 0, "content": "[PAD]"}]
    models = {"WordPiece": ids, "Unigram": [[word, -1.5] for word in WORDS]}
    for name, vocabulary in models.items():
        content = {"model": {"type": name, "vocab": vocabulary}, "added_tokens": added}
        place = folder(tmp_path, name)
        (place / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        assert read_vocabulary(place) == expected | {len(WORDS): "[NEW]"}
        assert added_tokens(place) == ["[NEW]"]
    pairs = folder(tmp_path, "bpe")
    (pairs / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    (pairs / "added_tokens.json").write_text(json.dumps({"[NEW]": len(WORDS)}), encoding="utf-8")
    assert read_vocabulary(pairs) == expected | {len(WORDS): "[NEW]"}
    assert read_vocabulary(folder(tmp_path, "none")) is None


def test_a_folder_without_a_tokenizer(tmp_path: Path):
    place = folder(tmp_path, "model")
    (place / "tokenizer_config.json").write_text("{}")  # says how to cut, not into what
    with pytest.raises(UserError, match="has no tokenizer"):
        require_tokenizer(place)


@pytest.mark.parametrize("family", ["albert", "roberta", "xlm-roberta"])
def test_berts_vocabulary_beside_another_family(family: str, tmp_path: Path):
    place = folder(tmp_path, "model", WORDS, model_type=family)
    require_tokenizer(place)
    assert is_berts(place)
    assert tokenizer_notes(place) == [
        f"{place}: only a vocab.txt beside the configuration of a `{family}` model, so BERT's tokenizer is used"
    ]
    (place / "spiece.model").write_bytes(b"\n")
    assert not is_berts(place)


def test_a_vocabulary_that_is_not_berts(tmp_path: Path):
    with pytest.raises(UserError, match=r"no vocabulary of BERT's tokenizer: it lacks \[PAD\], \[UNK\]"):
        require_tokenizer(folder(tmp_path, "model", list("天地"), model_type="albert"))


@pytest.mark.parametrize("family", ["bert", "ernie", "distilbert", "electra"])
def test_families_that_have_a_vocab_txt_keep_their_own_class(family: str, tmp_path: Path):
    place = folder(tmp_path, "model", WORDS, model_type=family)
    assert not needs_berts_class(place)
    assert tokenizer_notes(place) == []


def test_a_vocabulary_of_the_same_size_with_other_tokens(tmp_path: Path):
    rows = folder(tmp_path, "rows", WORDS)
    student = folder(tmp_path, "student", [*WORDS[:-2], "黄", "玄"], vocab_size=len(WORDS))
    problem = reading_problem(rows, "teacher.path=T", "student.path", student)
    assert problem is not None
    assert f"has another vocabulary than teacher.path=T: {len(WORDS)} tokens, not {len(WORDS)}" in problem
    assert '"玄" in teacher.path=T and "黄" in student.path' in problem
    assert "student.teacher_layers" in problem


def test_more_tokens_in_the_model_are_no_problem(tmp_path: Path):
    rows = folder(tmp_path, "rows", WORDS)
    larger = folder(tmp_path, "larger", [*WORDS, "宇"], vocab_size=len(WORDS) + 1)
    assert reading_problem(rows, "rows", "encoder.path", larger) is None
    assert "9 tokens, not 10" in (reading_problem(larger, "rows", "encoder.path", rows) or "")


def test_a_token_that_stands_twice_has_one_id(tmp_path: Path):
    rows = folder(tmp_path, "rows", [*WORDS, "天"])
    other = folder(tmp_path, "other", [*WORDS[:5], "unused", *WORDS[6:], "天"], vocab_size=len(WORDS) + 1)
    assert reading_problem(rows, "rows", "encoder.path", other) is None


def test_sizes_alone_where_the_model_has_no_vocabulary(tmp_path: Path):
    rows = folder(tmp_path, "rows", WORDS)
    assert reading_problem(rows, "rows", "encoder.path", folder(tmp_path, "fits", vocab_size=len(WORDS) + 3)) is None
    small = folder(tmp_path, "small", backbone={"vocab_size": len(WORDS) - 1})
    assert "resize_token_embeddings(9)" in (reading_problem(rows, "rows", "model.path", small) or "")


def test_added_tokens_are_named_with_the_way_out():
    problem = embedding_problem(251, "T", 248, "the teacher", ["[A]", "[B]", "[C]"])
    assert problem is not None
    assert "the tokenizer in T has 251 tokens (3 were added to its vocabulary: [A], [B], [C])" in problem
    assert "the teacher has 248 embeddings" in problem
    assert "remove the tokens from 248 on" in problem
    assert "resize_token_embeddings(251)" in problem


def test_far_fewer_tokens_than_embeddings():
    assert "not the tokenizer that this model was trained with" in (embedding_problem(5, "T", 248, "M", []) or "")
    assert embedding_problem(21_128, "T", 21_248, "M", []) is None  # padded to a multiple of 128
