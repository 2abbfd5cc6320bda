"""How settings change the stages of `tinybert`."""

from pathlib import Path

import pytest

from kd_dist.augmentation.sources import sources_of
from kd_dist.config.job import Job
from tests.loading import load_job


def tinybert(*overrides: str) -> Job:
    return load_job("tinybert", ["teacher.path=DIR", *overrides])


def test_general_distillation_needs_a_corpus() -> None:
    job = tinybert()
    assert not {"corpus", "general"} & set(job.stages)
    assert any("no general distillation" in note for note in job.notes)
    assert job.stages["distill"].initialized_from() == job.stages["alone"].initialized_from() == "DIR"
    with_corpus = tinybert("data.corpus=more.txt")
    assert with_corpus.stages["corpus"].data.corpus == ["more.txt"]
    assert with_corpus.stages["layers"].student.path == "@general/export"


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        ((), ["perturbed"]),
        (("data.unlabelled=more.txt",), ["unlabelled", "perturbed"]),
        (("data.unlabelled=more.txt", "perturb.copies=0"), ["unlabelled"]),
        (("perturb.copies=0",), []),
    ],
)
def test_rows_without_labels_are_distilled_on_beside_the_labelled_ones(settings: tuple[str], made: list[str]) -> None:
    job = tinybert(*settings)
    assert [name for name in ("unlabelled", "perturbed") if name in job.stages] == made
    rows = {name: job.stages[name].data.unlabelled_tokens for name in ("outputs", "distill", "alone")}
    wires = [f"@{name}/tokens" for name in made]
    assert rows == dict.fromkeys(("outputs", "distill"), wires) | {"alone": []}
    assert {job.stages[name].data.tokens for name in rows} == {"@labelled/tokens"}
    assert job.wire_problems() == []


def test_a_given_student_needs_no_general_distillation() -> None:
    job = tinybert("student.path=STUDENT")
    assert not {"corpus", "general"} & set(job.stages)
    assert job.stages["layers"].student.path == "STUDENT"
    assert job.stages["alone"].student.path == "STUDENT"
    assert job.stages["distill"].student.path == "@layers/export"
    assert job.wire_problems() == []


def test_a_student_of_teacher_layers_needs_no_general_distillation() -> None:
    job = tinybert("student.teacher_layers=3,6,9,12")
    assert "general" not in job.stages
    assert (job.stages["layers"].student.path, job.stages["layers"].student.teacher_layers) == (None, [3, 6, 9, 12])


def test_augmentation_is_left_out_visibly_where_nothing_proposes_words() -> None:
    job = tinybert()
    assert not {"augmentation", "augmented"} & set(job.stages)
    assert {job.stages[name].data.tokens for name in ("outputs", "distill", "alone")} == {"@labelled/tokens"}
    assert any(note.startswith("no augmentation") for note in job.notes)


@pytest.mark.parametrize(
    "source", ["encoder.path=MLM", "teacher.path=MLM", "augment.mlm_path=MLM", "augment.word_vectors=vectors.txt"]
)
def test_augmentation_takes_part_where_something_does(source: str) -> None:
    job = tinybert(source)
    assert {"augmentation", "augmented"} <= set(job.stages)
    assert {job.stages[name].data.tokens for name in ("outputs", "distill", "alone")} == {"@augmented/tokens"}
    assert job.stages["evaluation"].data.tokens == "@labelled/tokens"


def test_a_filter_asks_the_trained_teacher() -> None:
    job = tinybert("augment.mlm_path=MLM", "augment.keep_confidence=0.5")
    assert job.stages["augmentation"].teacher.path == "@check/model"
    assert job.stages["augmentation"].augment.mlm_path == "MLM"
    assert job.wire_problems() == []


def test_a_filter_asks_the_teacher_that_is_given_it() -> None:
    job = tinybert("augment.mlm_path=MLM", "augment.keep_confidence=0.5", "augmentation.teacher.path=OTHER")
    assert job.stages["augmentation"].teacher.path == "OTHER"


@pytest.mark.parametrize("more", [[], ["general.student.path=START"]])
def test_what_is_given_to_layer_distillation_stays_where_there_is_no_general_one(more: list[str]) -> None:
    student = tinybert("layers.student.config=bert_3l_192", *more).stages["layers"].student
    assert (student.config, student.path) == ("bert_3l_192", "START" if more else None)


def test_word_vectors_do_for_a_filter_where_the_teacher_has_no_language_model(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("the 0.1 0.2\n")
    settings = ["augment.word_vectors=vectors.txt", "augment.keep_confidence=0.5"]
    assert sources_of(tinybert(*settings).stages["augmentation"]).masked_language_model is None
    assert sources_of(tinybert(*settings, "encoder.path=MLM").stages["augmentation"]).masked_language_model == "MLM"


def test_a_run_can_be_repeated_from_its_own_description(tmp_path: Path) -> None:
    job = tinybert("student.path=STUDENT", "layers.train.steps=9", "distill.train.steps=7")
    (tmp_path / "job.json").write_text(job.model_dump_json())
    again = load_job("tinybert", ["distill.objective.temperature=2"], tmp_path / "job.json")
    assert again.stages["distill"].objective.temperature == 2
    assert again.stages["distill"].train.steps == 7
    assert again.stages["alone"].train.steps == 16
    assert set(again.stages) == set(job.stages)
