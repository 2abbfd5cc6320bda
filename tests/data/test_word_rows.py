"""Rows of words are the teacher's rows in the student's words: same order, same labels, the teacher's logits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from kd_dist.augmentation.perturbed import perturb
from kd_dist.config.sections.augmentation import Perturb
from kd_dist.config.sections.data import LabelledData, UnlabelledData
from kd_dist.config.stages import WordsStage
from kd_dist.data import labelled as labelled_stage
from kd_dist.data import unlabelled
from kd_dist.data.prepared_rows import SPLITS, PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.data.word_rows import initial_embeddings, texts_of
from kd_dist.errors import RunError
from kd_dist.training.teacher_outputs import identify
from tests.conftest import LabelledWorld, TinyWorld
from tests.stages import run_entry

Run = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a stage over rows, and returns its folder."""

    def run(tokens: Path, *more: Path, **settings: Any) -> Path:
        data = {"tokens": str(tokens), "unlabelled_tokens": list(map(str, more))}
        stage = WordsStage.model_validate({"data": data, "student": settings})
        folder = tmp_path / "words"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
        run_entry(folder)
        return folder

    return run


@pytest.fixture
def more(labelled: LabelledWorld, tmp_path: Path) -> list[Path]:
    """Rows without labels: texts, and labelled rows that are perturbed."""
    file, texts, perturbed = tmp_path / "texts.txt", tmp_path / "texts", tmp_path / "perturbed"
    file.write_text("".join(f"第{number}本书很好,值得一读。\n" for number in range(30)), encoding="utf-8")
    unlabelled.prepare(UnlabelledData(unlabelled=[str(file)], tokens=str(labelled.tokens)), None, texts)
    perturb(PreparedRows(labelled.tokens), Perturb(copies=2), perturbed)
    return [texts, perturbed]


class Keys:
    """Outputs of a teacher whose logits are the keys that it is asked for."""

    def of(self, keys_B: np.ndarray) -> np.ndarray:
        return keys_B.astype(np.float64)[:, None]


def collated(folder: Path, split: str, *unlabelled: Path) -> dict[str, Any]:
    rows = TokenRows(folder, split, 0, Keys(), unlabelled)
    return rows.collate(np.arange(len(rows)))


def test_rows_keep_their_order_their_labels_and_the_teachers_logits(
    labelled: LabelledWorld, more: list[Path], run: Run
) -> None:
    folder = run(labelled.tokens, *more)
    for split in SPLITS:
        unlabelled = (more, [folder / "unlabelled"]) if split == "train" else ([], [])
        before = collated(labelled.tokens, split, *unlabelled[0])
        after = collated(folder / "tokens", split, *unlabelled[1])
        assert after["labels"].tolist() == before["labels"].tolist()
        assert after["teacher_logits"].tolist() == before["teacher_logits"].tolist()
        assert set(after) == {"input_ids", "attention_mask", "labels", "teacher_logits"}
    rows, words = PreparedRows(labelled.tokens), PreparedRows(folder / "tokens")
    assert words.dataset("test")["text"][:] == rows.dataset("test")["text"][:]
    assert identify(labelled.teacher, words.folder) == identify(labelled.teacher, rows.folder)
    assert words.labels == rows.labels
    assert words.statistics["train_rows"] == len(words.lengths("train")) == rows.statistics["train_rows"]
    assert words.statistics["vocabulary_size"] == len(load_fast_tokenizer(str(words.tokenizer_folder)))


def test_a_text_has_the_same_ids_in_training_and_in_prediction(labelled: LabelledWorld, run: Run) -> None:
    words = PreparedRows(run(labelled.tokens) / "tokens")
    tokenizer = load_fast_tokenizer(str(words.tokenizer_folder))
    for split in SPLITS:
        rows = words.dataset(split)
        encodings = words.preprocessing.encode(tokenizer, rows["text"][:])
        assert [encoding.input_ids for encoding in encodings] == rows["input_ids"][:]


def test_words_of_texts_are_counted_and_those_of_perturbed_rows_are_not(
    labelled: LabelledWorld, more: list[Path], run: Run
) -> None:
    def vocabulary(*folders: Path) -> dict[str, int]:
        return AutoTokenizer.from_pretrained(run(labelled.tokens, *folders) / "tokens" / "tokenizer").get_vocab()

    texts, perturbed = more
    assert "值得" in vocabulary(texts, perturbed)
    assert "值得" not in vocabulary(perturbed)
    assert vocabulary(perturbed) == vocabulary()
    assert vocabulary(texts, perturbed) == vocabulary(texts)


def test_the_tokens_of_a_row_stand_for_its_text(labelled: LabelledWorld, run: Run) -> None:
    rows, words = PreparedRows(labelled.tokens), PreparedRows(run(labelled.tokens) / "tokens")
    teacher, student = (load_fast_tokenizer(str(each.tokenizer_folder)) for each in (rows, words))
    train = rows.dataset("train")
    short = [n for n, length in enumerate(rows.lengths("train")) if length < 48]  # others are cut
    known = [n for n in short if teacher.unk_token_id not in train[n]["input_ids"]]
    decoded = [text for n in known for text in texts_of(teacher, train[n]["input_ids"], 1)]
    encodings = words.preprocessing.encode(student, decoded)
    assert [encoding.input_ids for encoding in encodings] == [words.dataset("train")[n]["input_ids"] for n in known]
    assert len(known) > 10


def test_masks_are_the_students_unknown_words_are_left_out_and_pairs_are_two_texts(tiny: TinyWorld) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny.tokenizer)
    ids = tokenizer("今天[MASK]很好", "天气[UNK]好")["input_ids"]
    assert [" ".join(text.split()) for text in texts_of(tokenizer, ids, 2)] == ["今天 [MASK] 很好", "天气好"]
    assert texts_of(tokenizer, ids, 1) == ["天气好"]  # the first is hint words
    assert texts_of(tokenizer, tokenizer("今天")["input_ids"], 2) == ["今天", ""]


def test_pairs_are_read_as_two_texts(tiny: TinyWorld, tmp_path: Path, run: Run) -> None:
    lines = "".join(f"{n % 2}\t今天第{n}个\t天气很好{n}\n" for n in range(60))
    (tmp_path / "pairs.tsv").write_text(lines, encoding="utf-8")
    data = LabelledData(train=[str(tmp_path / "pairs.tsv")], columns=["label", "text", "text_pair"], num_workers=1)
    labelled_stage.prepare(data, str(tiny.tokenizer), tmp_path / "tokens", tmp_path / "pairs.txt")
    perturb(PreparedRows(tmp_path / "tokens"), Perturb(copies=1), tmp_path / "perturbed")
    folder = run(tmp_path / "tokens", tmp_path / "perturbed")
    before = collated(tmp_path / "tokens", "train", tmp_path / "perturbed")
    after = collated(folder / "tokens", "train", folder / "unlabelled")
    assert "token_type_ids" in before
    assert "token_type_ids" not in after
    assert after["teacher_logits"].tolist() == before["teacher_logits"].tolist()
    words = PreparedRows(folder / "tokens")
    tokenizer = AutoTokenizer.from_pretrained(words.tokenizer_folder)
    first = words.dataset("train")[0]
    shown = "".join(tokenizer.convert_ids_to_tokens(first["input_ids"]))
    assert shown == f"{first['text']}[SEP]{first['text_pair']}[SEP]"
    ends = [
        row.count(tokenizer.sep_token_id) for row in PreparedRows(folder / "unlabelled").dataset("train")["input_ids"]
    ]
    assert set(ends) == {2}


def test_embeddings_start_from_the_vectors_of_a_file(labelled: LabelledWorld, tmp_path: Path, run: Run) -> None:
    text = "\n".join(f"{word} {n} -1 0.5" for n, word in enumerate(["中国", "经济", "无人知晓的词"]))
    (tmp_path / "vectors.txt").write_text(text, encoding="utf-8")
    words = PreparedRows(run(labelled.tokens, word_vectors=str(tmp_path / "vectors.txt")) / "tokens")
    vocabulary, vectors_VE = AutoTokenizer.from_pretrained(words.tokenizer_folder).get_vocab(), words.word_vectors()
    assert vectors_VE.shape == (len(vocabulary), 3)
    assert vectors_VE[vocabulary["中国"]].tolist() == [0, -1, 0.5]
    assert vectors_VE[vocabulary["经济"]].tolist() == [1, -1, 0.5]
    assert words.statistics["pieces_with_vector"] == 2
    assert PreparedRows(run(labelled.tokens) / "tokens").word_vectors() is None


def test_what_has_no_vector_starts_from_random_ones_of_the_same_spread() -> None:
    vocabulary = {f"{n}": n for n in range(4000)}
    found_VE = initial_embeddings(vocabulary, {"3": np.float32([3, 1]), "x": np.float32([-3, -1])})
    assert found_VE[3].tolist() == [3, 1]
    np.testing.assert_allclose(np.delete(found_VE, 3, axis=0).std(axis=0), np.sqrt(5), rtol=0.05)


def test_a_file_without_a_vector_for_any_word_is_refused(labelled: LabelledWorld, tmp_path: Path, run: Run) -> None:
    (tmp_path / "vectors.txt").write_text("hello 1 2\nworld 3 4\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"student.word_vectors=.* has a vector of none of the [\d,]+ words"):
        run(labelled.tokens, word_vectors=str(tmp_path / "vectors.txt"))
