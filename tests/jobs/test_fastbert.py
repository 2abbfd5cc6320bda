"""How settings change the stages of `fastbert`."""

from kd_dist.config.job import Job
from kd_dist.config.seeds import with_seeds
from tests.loading import load_job


def fastbert(*overrides: str) -> Job:
    return load_job("fastbert", ["teacher.path=DIR", *overrides])


def test_without_texts_branches_learn_from_the_training_rows() -> None:
    job = fastbert()
    assert "unlabelled" not in job.stages
    assert job.stages["self_distill"].data.tokens == "@labelled/tokens"
    assert job.notes == ["branches learn from the training texts; set data.unlabelled to use others"]
    assert job.wire_problems() == []


def test_with_texts_branches_learn_from_them_and_are_judged_by_labelled_rows() -> None:
    job = fastbert("data.unlabelled=more.txt")
    assert job.stages["unlabelled"].data.unlabelled == ["more.txt"]
    assert job.stages["unlabelled"].data.tokens == "@labelled/tokens"
    assert job.stages["self_distill"].data.tokens == "@unlabelled/tokens"
    assert {job.stages[name].data.tokens for name in ("check", "calibration", "evaluation")} == {"@labelled/tokens"}
    assert job.notes == []


def test_a_trained_classifier_needs_no_fine_tuning() -> None:
    job = fastbert("check.evaluate.models=teacher:TRAINED")
    assert "finetune" not in job.stages
    assert job.stages["self_distill"].model.path == "@check/model"
    assert any(note.startswith("no fine-tuning") for note in job.notes)
    assert job.wire_problems() == []


def test_branches_that_are_there_are_only_calibrated_and_measured() -> None:
    job = fastbert("check.evaluate.models=teacher:TRAINED", "calibration.model.path=BRANCHED")
    assert list(job.stages) == ["labelled", "check", "calibration", "evaluation", "report"]
    assert [note.split(":")[0].split(",")[0] for note in job.notes] == ["no self-distillation", "no fine-tuning"]
    assert job.seeded == ["calibration"]
    assert job.wire_problems() == []


def test_branches_without_a_separate_classifier_are_measured_once() -> None:
    job = fastbert("calibration.model.path=BRANCHED")
    assert list(job.stages) == ["labelled", "calibration", "evaluation", "report"]
    assert job.stages["evaluation"].evaluate.models == {"fastbert": "@calibration/export"}
    assert [note.split(";")[0] for note in job.notes] == [
        "no self-distillation, and data.unlabelled is not read: BRANCHED already has branches",
        "it is compared with its own final classifier",
    ]
    assert job.seeded == ["calibration"]
    assert job.wire_problems() == []


def test_branches_grow_on_what_passed_the_guard_and_the_calibrated_model_is_the_result() -> None:
    job = fastbert()
    assert job.stages["check"].guards is not None
    assert job.edges()["self_distill"] == ["labelled", "check"]
    assert job.edges()["calibration"] == ["labelled", "self_distill"]
    assert list(job.stages["evaluation"].evaluate.models.values()) == ["@check/model", "@calibration/export"]
    assert job.result == "calibration"


def test_each_seed_of_fastbert_is_calibrated_and_scored() -> None:
    job = with_seeds(fastbert(), 2)
    assert job.stages["self_distill_seed43"].train.seed == 43
    assert job.stages["self_distill_seed43"].model.path == "@check/model"
    assert job.stages["calibration_seed43"].model.path == "@self_distill_seed43/export"
    assert job.stages["evaluation"].evaluate.models["fastbert@43"] == "@calibration_seed43/export"
    assert job.wire_problems() == []
