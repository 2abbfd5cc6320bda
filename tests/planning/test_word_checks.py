"""Students that read words get rows of words, and rows of words such students, before anything queues."""

from pathlib import Path

import pytest

from kd_dist.planning.checks import load_checked_job
from tests.planning.refusals import model, problems

TRAINED = {"architectures": ["BertForSequenceClassification"]}


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    return [f"teacher.path={model(tmp_path, **TRAINED)}", "student.input=words"]


def test_words_are_for_recurrent_students_whose_words_are_made_here(given: list[str], tmp_path: Path) -> None:
    for config in ("bilstm", "bigru"):
        load_checked_job("rnn", [*given, f"student.config={config}"], plan_only=True)
    said = problems(*given, "student.config=tinybert_4l_312", job="rnn")
    assert "student.input=words: student.config=tinybert_4l_312 is no recurrent model: use bilstm, bigru" in said
    said = problems(*given, f"student.path={tmp_path}", job="rnn")
    assert f"student.path={tmp_path} knows other tokens than the words of these texts: leave it out" in said


@pytest.mark.parametrize("job", ["tinybert_task", "finetune", "soft_labels"])
def test_only_one_job_makes_words(given: list[str], tmp_path: Path, job: str) -> None:
    settings = given if job == "tinybert_task" else [f"donor.path={tmp_path / 'model'}", given[1]]
    if job == "finetune":
        assert "unknown option `student.input`" in problems(given[1], job=job)
        return
    said = problems(*settings, "student.config=bilstm", job=job)
    assert "student.input=words: @labelled/tokens holds tokens, and only `--job rnn` makes words of them" in said


def test_a_teacher_does_not_run_on_words(given: list[str]) -> None:
    said = problems(*given, "distill.data.teacher_outputs=none", job="rnn")
    assert "the teacher reads tokens and cannot run on rows of words: set data.teacher_outputs" in said


def test_rows_of_words_are_not_for_a_student_of_tokens(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "rows" / "teacher_tokenizer").mkdir(parents=True)
    said = problems(given[0], f"distill.data.tokens={tmp_path / 'rows'}", job="rnn")
    assert f"{tmp_path / 'rows'} holds the words of a student: set student.input=words" in said
    said = problems(*given, f"distill.data.unlabelled_tokens={tmp_path}", job="rnn")
    assert f"student.input=words: {tmp_path} holds tokens, and only `--job rnn` makes words of them" in said


@pytest.mark.parametrize("setting", ["student.word_vectors=v.txt", "words.student.vocabulary_size=500"])
def test_settings_of_words_need_a_student_that_reads_them(given: list[str], setting: str) -> None:
    said = problems(given[0], setting, job="rnn")
    assert said.endswith(
        "words: settings of words are for a student that reads them: set student.input=words or sentence as well"
    )


def test_a_file_of_word_vectors_is_looked_into(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("no vectors\n", encoding="utf-8")
    for name, said in (("vectors.txt", "is not a word2vec file (it begins with"), ("none.txt", "no such file")):
        file = tmp_path / name
        assert f"student.word_vectors={file}" in (found := problems(*given, f"student.word_vectors={file}", job="rnn"))
        assert said in found
