"""A model that was trained on other tokens than the rows hold is refused before anything queues."""

from pathlib import Path

import pytest

from kd_dist.errors import UserError
from kd_dist.planning.checks import load_checked_job
from tests.planning.test_folder_checks import WORDS, Make, make, overrides

__all__ = ["make"]

OTHER = [*WORDS[:-2], "黄", "玄"]


def problems(job: str, settings: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        load_checked_job(job, settings)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_a_student_with_other_tokens_of_the_same_number(tmp_path: Path, make: Make) -> None:
    student = make("bad", words=OTHER)
    said = problems("tinybert_general", overrides(tmp_path, "tinybert_general", "student.path", student, make))
    assert f"distill: student.path={student} has another vocabulary than teacher.path={tmp_path}/teacher" in said
    assert 'the first that differs is token 7, "玄" in teacher.path' in said


def test_a_student_of_a_trained_classifier(tmp_path: Path, make: Make) -> None:
    teacher = make("classifier", architectures=["BertForSequenceClassification"])
    student = make("smaller", words=WORDS[:7], vocab_size=7)
    settings = [*overrides(tmp_path, "tinybert_task", "teacher.path", teacher, make), f"student.path={student}"]
    said = problems("tinybert_task", settings)
    assert f"layers: student.path={student} has another vocabulary than teacher.path={teacher}: 7 tokens, not 9" in said
    assert "student.teacher_layers" in said


def test_an_encoder_beside_another_tokenizer(tmp_path: Path, make: Make) -> None:
    settings = overrides(tmp_path, "finetune", "encoder.path", make("encoder"), make)
    said = problems("finetune", [*settings, f"tokenizer.path={make('tokenizer', words=OTHER)}"])
    assert f"encoder.path={tmp_path}/encoder has another vocabulary than the tokenizer in {tmp_path}/tokenizer" in said
    assert "prepare the rows with the tokenizer of this model (tokenizer.path)" in said


def test_more_tokens_than_embeddings(tmp_path: Path, make: Make) -> None:
    encoder = make("added", words=[*WORDS, "[NEW]"])
    said = problems("finetune", overrides(tmp_path, "finetune", "encoder.path", encoder, make))
    assert f"the tokenizer in {encoder} has 10 tokens" in said
    assert f"encoder.path={encoder} has 9 embeddings" in said
    assert "resize_token_embeddings(10)" in said


def test_far_fewer_tokens_than_embeddings(tmp_path: Path, make: Make) -> None:
    encoder = make("cut", words=WORDS[:4])
    said = problems("finetune", overrides(tmp_path, "finetune", "encoder.path", encoder, make))
    assert "not the tokenizer that this model was trained with" in said


def test_a_student_without_a_tokenizer_of_its_own_is_fine(tmp_path: Path, make: Make) -> None:
    student = make("bare")
    (student / "vocab.txt").unlink()
    load_checked_job("tinybert_general", overrides(tmp_path, "tinybert_general", "student.path", student, make))
