"""Every form of a file gives the same words and vectors; what is no word is left out and named."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kd_dist.data import word_vector_files
from kd_dist.data.word_vector_files import check_word_vectors, read_word_vectors
from kd_dist.errors import RunError

OPTION = "augment.word_vectors"

VECTORS = {word: np.float32([number, -0.5, 1e-3]) for number, word in enumerate(["天气", "2008", "the", "，", "银行"])}


def line(word: str, vector: np.ndarray, separator: str = " ") -> str:
    return separator.join([word, " ".join(map(str, vector.tolist()))])


def text(*extra: str, header: bool = True, separator: str = " ", end: str = "\n") -> bytes:
    lines = [*(line(word, vector, separator) for word, vector in VECTORS.items()), *extra]
    return "".join(f"{each}{end}" for each in ([f"{len(lines)} 3"] if header else []) + lines).encode()


def binary(end: bytes) -> bytes:
    entries = [word.encode() + b" " + vector.tobytes() for word, vector in VECTORS.items()]
    return b"5 3\n" + b"".join(entry + end for entry in entries)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize(
    "content",
    [
        text(),
        text(header=False),
        text(separator="\t"),
        text(end=" \n"),
        text(end="\r\n"),
        binary(b"\n"),
        binary(b""),
    ],
    ids=["word2vec", "GloVe", "tab", "space at the end", "windows", "binary of word2vec", "binary of gensim"],
)
def test_every_form_gives_the_same(content: bytes, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(pack(content))
    check_word_vectors(path, OPTION)
    words, vectors_VE, notes = read_word_vectors(path, OPTION)
    assert words == list(VECTORS)
    np.testing.assert_allclose(vectors_VE, list(VECTORS.values()), rtol=1e-6)
    assert (vectors_VE.dtype, notes) == (np.float32, [])


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("word", [" ", "\u3000", "\xa0", "New York", ". . .", "windows 95 2"])
def test_spaces_in_a_word_are_part_of_it(word: str, header: bool, tmp_path: Path) -> None:
    (tmp_path / "vectors").write_bytes(text(line(word, np.float32([7, 8, 9])), header=header))
    words, vectors_VE, notes = read_word_vectors(tmp_path / "vectors", OPTION)
    assert words == [*VECTORS, word]
    assert vectors_VE[-1].tolist() == [7, 8, 9]
    assert notes == []


@pytest.mark.parametrize("header", [True, False])
def test_lines_that_are_no_word_are_left_out_and_named(header: bool, tmp_path: Path) -> None:
    content = text("short 1 2", "letters 1 2 x", "empty 1 nan 2", header=header) + b"\xff\xfe 1 2 3\n\n"
    (tmp_path / "vectors").write_bytes(content)
    words, _, notes = read_word_vectors(tmp_path / "vectors", OPTION)
    assert words == list(VECTORS)
    numbers = "7, 8, 9, 10" if header else "6, 7, 8, 9"
    assert notes == [
        f"augment.word_vectors={tmp_path}/vectors: lines left out because they are not a word in UTF-8 and 3 numbers: "
        f"4 ({numbers})"
    ]


def test_only_some_of_many_bad_lines_are_named(tmp_path: Path) -> None:
    good = [line(f"word{number}", np.float32([1, 2, 3])) for number in range(30)]
    (tmp_path / "vectors").write_text("\n".join([*good, *["bad"] * 12]))
    (note,) = read_word_vectors(tmp_path / "vectors", OPTION).notes
    assert note.endswith(": 12 (31, 32, 33, 34, 35, 36, 37, 38, 39, 40 ...)")


def test_words_that_are_announced_and_missing_are_counted(tmp_path: Path) -> None:
    (tmp_path / "vectors").write_bytes(text().replace(b"5 3\n", b"1000 3\n"))
    assert read_word_vectors(tmp_path / "vectors", OPTION).notes == [
        f"augment.word_vectors={tmp_path}/vectors: it holds 5 of the 1,000 words that its first line announces"
    ]


def test_the_first_vector_of_a_word_counts(tmp_path: Path) -> None:
    (tmp_path / "vectors").write_bytes(text(line("the", np.float32([7, 8, 9]))))
    words, vectors_VE, _ = read_word_vectors(tmp_path / "vectors", OPTION)
    assert (len(words), vectors_VE[2, 0]) == (5, 2)


def test_only_the_first_words_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_vector_files, "MAX_WORDS", 2)
    (tmp_path / "vectors").write_bytes(text("bad"))
    assert read_word_vectors(tmp_path / "vectors", OPTION)[::2] == (["天气", "2008"], [])


def test_words_that_nobody_wants_are_not_among_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_vector_files, "MAX_WORDS", 2)
    (tmp_path / "vectors").write_bytes(text("bad"))
    words, vectors_VE, notes = read_word_vectors(tmp_path / "vectors", OPTION, keep={"the", "银行"}.__contains__)
    assert (words, vectors_VE[:, 0].tolist(), notes) == (["the", "银行"], [2, 4], [])
    words, vectors_VE, notes = read_word_vectors(tmp_path / "vectors", OPTION, keep={"不"}.__contains__)
    assert (words, vectors_VE.shape, notes) == ([], (0, 3), [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it begins with b''"),
        (b'{"a": 1}\n', "it begins with"),
        (b"word one two\n", "it begins with"),
        (b"word 5\nother 3\n", "it begins with"),  # a list of frequencies
        (b"PK\x03\x04" + bytes(100), "it begins with"),
        (b"1 2\nword 1 nan\n", "line 2: a number that is not finite"),
        (text().replace(b"5 3\n", b"5 4\n"), "announces 4 numbers for a word, its lines have 3"),
        (text().replace(b"\n", b"\r"), "carriage return alone"),
        ("天 1 2 3\n气 1 2 3\n".encode("gb18030"), "line 1: 'utf-8' codec"),
        (binary(b"")[:-1], "it ends after 4 of the 5 words that it announces"),
        (gzip.compress(text())[:-12], "Compressed file ended"),
        (bz2.compress(text())[:-12], "Compressed file ended"),
        (bz2.compress(text())[:20] + bytes(40), "Invalid data stream"),
        (lzma.compress(text())[:-30], "Compressed file ended"),
    ],
)
def test_another_file_is_refused_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        read_word_vectors(path, OPTION)
    assert str(caught.value).startswith(f"augment.word_vectors={path} is not a word2vec file (")
    assert reason in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"augment.word_vectors=/no/such.txt: no such file; give word2vec or GloVe"):
        check_word_vectors(Path("/no/such.txt"), OPTION)
