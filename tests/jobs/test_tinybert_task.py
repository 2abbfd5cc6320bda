"""Students with and without distillation are compared fairly, and the given teacher is checked."""

import json
from pathlib import Path

import pytest

from kd_dist.errors import UserError
from tests.loading import load_job

NOT_PERTURBED = "no perturbed rows: a text may have several labels (perturb.copies=8 asks for them)"


@pytest.mark.parametrize("name", ["tinybert", "tinybert_task"])
@pytest.mark.parametrize(
    ("settings", "steps", "epochs", "batch"),
    [
        ([], None, 6, 32),
        (["perturb.copies=0"], None, 3, 32),
        (["layers.train.epochs=4", "distill.train.epochs=2"], None, 12, 32),
        (["layers.train.epochs=4", "distill.train.epochs=2", "perturb.copies=0"], None, 6, 32),
        (["layers.train.steps=40", "distill.train.steps=20"], 60, 6, 32),
        (["train.steps=6"], 6, 6, 32),
        (["train.steps=6", "layers.train.steps=150"], 156, 6, 32),
        (["train.epochs=5"], None, 10, 32),
        (["train.global_batch_size=64"], None, 6, 64),
        (["layers.train.global_batch_size=256", "distill.train.global_batch_size=256"], None, 14, 256),
    ],
)
def test_the_student_alone_is_trained_as_long_as_the_distilled_one(
    name: str, settings: list[str], steps: int | None, epochs: float, batch: int
) -> None:
    train = load_job(name, settings).stages["alone"].train
    assert (train.steps, train.epochs, train.global_batch_size) == (steps, epochs, batch)


@pytest.mark.parametrize("name", ["tinybert", "tinybert_task"])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["layers.train.steps=500"], "layers.train.steps=500 and distill.train.epochs=3.0 cannot be added"),
        (
            ["objective.units=absolute", "distill.train.steps=500"],
            "layers.train.epochs=4.0 and distill.train.steps=500 cannot",
        ),
        (
            ["layers.train.global_batch_size=256"],
            "layers.train.global_batch_size=256 and distill.train.global_batch_size=32 cannot be added",
        ),
    ],
)
def test_lengths_that_cannot_be_added_up_are_refused_with_a_way_out(name: str, settings: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_job(name, settings)
    assert "set alone.train.steps=N" in str(caught.value)
    job = load_job(name, [*settings, "alone.train.steps=500"])
    assert job.stages["alone"].train.steps == 500
    assert any("not trained for as long as the distilled one: alone.train.steps=500" in note for note in job.notes)


@pytest.mark.parametrize("setting", ["steps=77", "epochs=12.0", "epochs=5.0", "epochs=3.0", "global_batch_size=64"])
def test_a_length_that_is_set_for_the_student_alone_stays(setting: str) -> None:
    job = load_job("tinybert_task", [f"alone.train.{setting}"])
    key, value = setting.split("=")
    assert getattr(job.stages["alone"].train, key) == float(value)
    assert any(f"alone.train.{setting}" in note for note in job.notes)


def test_the_batch_size_of_all_stages_does_not_change_the_length_of_the_student_alone() -> None:
    stages = ("layers", "distill", "alone")
    job = load_job("tinybert_task", [f"{stage}.train.global_batch_size=28" for stage in stages])
    train = job.stages["alone"].train
    assert (train.global_batch_size, train.epochs) == (28, 14.0)
    assert not any("not trained for as long" in note for note in job.notes)


@pytest.mark.parametrize("name", ["tinybert", "tinybert_task"])
def test_rows_of_several_labels_are_perturbed_only_where_that_is_asked_for(name: str) -> None:
    one, several = load_job(name, []), load_job(name, ["data.task=multi_label"])
    assert "perturbed" in one.stages
    assert "perturbed" not in several.stages
    assert several.stages["distill"].data.unlabelled_tokens == several.stages["outputs"].data.unlabelled_tokens == []
    assert several.stages["alone"].train.epochs == several.stages["distill"].train.epochs
    assert (NOT_PERTURBED in several.notes, NOT_PERTURBED in one.notes) == (True, False)
    for setting in ("perturb.copies=8", "perturb.replace_words=0.3"):
        asked = load_job(name, ["data.task=multi_label", setting])
        assert "perturbed" in asked.stages
        assert NOT_PERTURBED not in asked.notes
    with_text = load_job(name, ["data.task=multi_label", "data.unlabelled=more.txt"])
    assert with_text.stages["distill"].data.unlabelled_tokens == ["@unlabelled/tokens"]


@pytest.mark.parametrize(("name", "settings"), [("rnn", []), ("tinybert_task", ["student.init=projected"])])
def test_a_student_without_layers_of_its_teacher_learns_several_labels_of_perturbed_rows(
    name: str, settings: list[str]
) -> None:
    job = load_job(name, ["data.task=multi_label", *settings])
    assert "perturbed" in job.stages
    assert NOT_PERTURBED not in job.notes


def test_the_teacher_that_is_checked_is_the_one_that_is_named() -> None:
    assert load_job("tinybert_task", ["teacher.path=DIR"]).stages["check"].evaluate.models == {"teacher": "DIR"}
    named = load_job("tinybert_task", ["teacher.path=DIR", "check.evaluate.models=teacher:TRAINED"])
    assert named.stages["check"].evaluate.models == {"teacher": "TRAINED"}
    assert named.stages["labelled"].tokenizer.path == "DIR"


def test_the_note_names_the_weights_that_the_student_alone_starts_from() -> None:
    def start(*settings: str) -> str:
        return load_job("tinybert_task", ["teacher.path=DIR", *settings]).notes[0]

    assert "starts from the weights of DIR, pruned (" in start()
    assert "starts from random weights (" in start("alone.student.init=random")
    assert "starts from STUDENT (" in start("alone.student.path=STUDENT")
    assert "starts from layers [3, 6] of DIR (" in start("alone.student.teacher_layers=3,6")


@pytest.mark.parametrize("name", ["tinybert", "tinybert_task"])
@pytest.mark.parametrize(
    ("settings", "has_layers"),
    [
        ([], False),
        (["layers.train.epochs=4"], True),
        (["objective.attention=raw"], True),
        (["objective.temperature=2"], False),
        (["student.teacher_layers=3,6,9,12"], True),
        (["student.init=random"], False),
    ],
)
def test_layers_are_distilled_where_the_student_has_some_or_a_setting_asks(
    name: str, settings: list[str], has_layers: bool
) -> None:
    job = load_job(name, ["teacher.path=DIR", *settings])
    distill = job.stages["distill"]
    assert ("layers" in job.stages) is has_layers
    assert (distill.student.path == "@layers/export") is has_layers
    assert (distill.donor is None) is has_layers
    assert any("no layer distillation" in note for note in job.notes) is not has_layers
    assert job.wire_problems() == []


def test_layers_that_were_taught_relations_are_not_compared_unless_a_setting_asks(tmp_path: Path) -> None:
    def stages(job: str, *settings: str) -> set[str]:
        (tmp_path / "manifest.json").write_text(json.dumps({"job": job}), encoding="utf-8")
        return set(load_job("tinybert_task", ["teacher.path=DIR", f"student.path={tmp_path}", *settings]).stages)

    assert "layers" in stages("tinybert_general")
    assert "layers" not in stages("minilm")
    assert "layers" in stages("minilm", "layers.train.epochs=4")
    job = load_job("tinybert_task", ["teacher.path=DIR", f"student.path={tmp_path}"])
    assert job.stages["distill"].student.path == str(tmp_path)
    assert any("starts with layers that were taught relations (" in note for note in job.notes)


@pytest.mark.parametrize(
    "text", ["distill.donor.path=x", "distill.student.x=1", "distill.student=1", "distill.student.x.y=1"]
)
def test_an_unknown_key_of_the_last_stage_is_a_message(text: str) -> None:
    with pytest.raises(UserError, match="unknown option"):
        load_job("tinybert_task", [text])


def test_what_is_given_to_the_last_stage_stays_where_layer_distillation_is_left_out() -> None:
    job = load_job("tinybert_task", ["distill.student.config=bert_3l_192", "donor.path=some/model"])
    distill = job.stages["distill"]
    assert "layers" not in job.stages
    assert (distill.student.config, distill.student.path, distill.donor.path) == ("bert_3l_192", None, "some/model")
