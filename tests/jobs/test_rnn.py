"""`rnn` distils a teacher into a recurrent classifier from files to report, whatever interrupts it."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.runs.layout import open_run
from tests.conftest import LabelledWorld
from tests.jobs.runs import check_predictions, run_job
from tests.loading import load_job
from tests.models.recurrent_models import write_recurrent_config
from tests.ranks import assert_same, run_ranks
from tests.stages import run_entry

STEPS = 8


def test_the_student_alone_has_the_same_architecture_start_and_length() -> None:
    stages = load_job("rnn", ["teacher.path=DIR", "student.config=bigru", "distill.train.epochs=7"]).stages
    distill, alone = stages["distill"], stages["alone"]
    assert alone.student == distill.student
    assert alone.train == distill.train.model_copy(update={"epochs": 14.0})  # of labelled rows without perturbed ones
    assert (alone.initialized_from(), distill.initialized_from()) == ("DIR", "@check/model")
    assert stages["check"].evaluate.models == {"teacher": "DIR"}


def test_layers_are_not_distilled_and_labels_and_logits_weigh_the_same() -> None:
    stages = load_job("rnn", ["teacher.path=DIR"]).stages
    assert list(stages) == [
        "labelled", "perturbed", "check", "outputs", "distill", "alone", "evaluation", "serving", "report"
    ]  # fmt: skip
    assert stages["distill"].objective == SoftLabelsObjective(soft_weight=0, hard_weight=0.5, logits_weight=0.5)


def test_of_several_labels_the_probabilities_are_learnt_unless_the_objective_is_given() -> None:
    several = load_job("rnn", ["data.task=multi_label"])
    assert several.stages["distill"].objective == SoftLabelsObjective(soft_weight=0.5, hard_weight=0.5)
    assert any("learns the teacher's probabilities" in note for note in several.notes)
    given = load_job("rnn", ["data.task=multi_label", "distill.objective.logits_weight=0.3"]).stages["distill"]
    assert given.objective == SoftLabelsObjective(soft_weight=0, hard_weight=0.5, logits_weight=0.3)


@pytest.mark.parametrize("student_input", ["words", "sentence"])
def test_students_of_words_get_rows_of_words_and_the_teacher_those_of_tokens(student_input: str) -> None:
    job = load_job("rnn", ["teacher.path=DIR", f"student.input={student_input}", "data.unlabelled=x.txt"])
    words, outputs = job.stages["words"].data, job.stages["outputs"].data
    assert words == outputs
    assert words.unlabelled_tokens == ["@unlabelled/tokens", "@perturbed/tokens"]
    distill, alone = job.stages["distill"], job.stages["alone"]
    assert (distill.data.tokens, alone.data.tokens) == ("@words/tokens", "@words/tokens")
    assert (distill.data.unlabelled_tokens, alone.data.unlabelled_tokens) == (["@words/unlabelled"], [])
    assert distill.data.teacher_outputs == "@outputs/outputs"
    assert job.stages["evaluation"].data.tokens == job.stages["serving"].data.tokens == "@labelled/tokens"
    assert (alone.initialized_from(), distill.initialized_from()) == (None, None)
    assert distill.models_fed() == {}
    assert "distill and alone: words, whose embeddings start from random vectors (student.word_vectors)" in job.notes


def test_one_student_may_read_words_and_the_other_tokens() -> None:
    job = load_job("rnn", ["teacher.path=DIR", "distill.student.input=words", "perturb.copies=0"])
    distill, alone = job.stages["distill"].data, job.stages["alone"].data
    assert (distill.tokens, distill.unlabelled_tokens, alone.tokens) == ("@words/tokens", [], "@labelled/tokens")


def test_a_length_of_its_own_is_noted() -> None:
    job = load_job("rnn", ["teacher.path=DIR", "alone.train.steps=5"])
    assert job.stages["alone"].train.steps == 5
    assert any("not trained for as long as the distilled one: alone.train.steps=5" in note for note in job.notes)


def test_the_job_goes_from_files_to_a_served_classifier(labelled: LabelledWorld, tmp_path: Path) -> None:
    """By tokens, on this machine; tests/slurm has words and sentences, on a cluster."""
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"第{number}本书很好,值得一读。\n" for number in range(40)), encoding="utf-8")
    settings = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    settings += [f"data.unlabelled={texts}", f"teacher.path={labelled.teacher}", "guards.teacher=warn"]
    settings += [f"student.config={write_recurrent_config(tmp_path)}", "data.max_length=48", "train.steps=4"]
    run_dir, _ = run_job("rnn", tmp_path, *settings)
    check_run(run_dir)


def check_run(run_dir: Path) -> None:
    """Check that students are measured beside their teacher, reported and exported, and that the export predicts."""
    rows = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    models = {row["model"]: row for row in rows if row["stage"] == "evaluation"}
    assert list(models) == ["teacher", "student_alone", "student"]
    assert models["student"]["parameters"] == models["student_alone"]["parameters"]
    assert models["student"]["operations_per_sample"] > 0
    assert (run_dir / "export" / "recurrent.py").exists()
    assert (run_dir / "export" / "onnx" / "model.onnx").exists()
    assert "The distilled student" in (run_dir / "report" / "index.html").read_text(encoding="utf-8")
    check_predictions(run_dir / "export")


# ------------------------------------------------------------------------------------------ what runs on the ranks


def train(plans: list[list[Any]]) -> None:
    """Run (stage_dir, stop_at) one after another; a checkpoint is saved and the run stops at that step, if any."""
    from kd_dist.errors import Preempted
    from tests.training.test_trainer import _signal_at

    for stage_dir, stop_at in plans:
        with pytest.MonkeyPatch.context() as patch:
            _signal_at(patch, stop_at)
            try:
                run_entry(Path(stage_dir))
                assert stop_at is None
            except Preempted:
                assert stop_at is not None


def test_ranks_and_interruptions_do_not_change_what_is_learned(labelled: LabelledWorld, tmp_path: Path) -> None:
    def opened(run_id: str, *overrides: str) -> str:
        settings = [f"distill.data.tokens={labelled.tokens}", f"distill.teacher.path={labelled.teacher}"]
        settings += ["distill.data.teacher_outputs=none", f"student.config={config}", f"train.steps={STEPS}"]
        settings += ["perturb.copies=0", "engine.precision=fp32"]
        settings += ["train.global_batch_size=16", "train.micro_batch_size=4", "cadence.save_every_n_steps=100"]
        return str(open_run(load_job("rnn", [*settings, *overrides]), tmp_path, run_id) / "distill")

    def weights(run_id: str) -> dict[str, Any]:
        return load_file(
            tmp_path / "rnn" / run_id / "distill" / "checkpoints" / f"step_{STEPS:08d}" / "weights.safetensors"
        )

    config = write_recurrent_config(tmp_path, num_hidden_layers=2)
    here, two = "tests.jobs.test_rnn:train", opened("two", "resources.gpus_per_node=2")
    bf16 = opened("bf16", "engine.precision=bf16")
    run_ranks(1, here, [[opened("one"), None], [opened("stopped"), 4], [bf16, None]])
    run_ranks(1, here, [[opened("stopped"), None]])
    run_ranks(2, here, [[two, None]])
    one = weights("one")
    for run_id, tolerance in (("stopped", 0.0), ("two", 1e-5), ("bf16", 0.02)):
        assert_same(one, weights(run_id), tolerance)
    assert any((one[name] != weights("bf16")[name]).any() for name in one)


def test_an_interruption_does_not_change_what_is_learned_from_words(labelled: LabelledWorld, tmp_path: Path) -> None:
    settings = [f"{stage}.data.tokens={labelled.tokens}" for stage in ("words", "outputs", "perturbed")]
    settings += [f"{stage}.teacher.path={labelled.teacher}" for stage in ("outputs", "distill")]
    settings += [f"student.config={write_recurrent_config(tmp_path)}", "student.input=words"]
    settings += [f"train.steps={STEPS}", "perturb.copies=1", "train.global_batch_size=16"]
    job = load_job("rnn", settings)
    runs = {run_id: open_run(job, tmp_path, run_id) for run_id in ("one", "stopped")}
    for run_dir in runs.values():
        for stage in ("perturbed", "words", "outputs"):
            run_entry(run_dir / stage)
    one, stopped = (str(run_dir / "distill") for run_dir in runs.values())
    run_ranks(1, "tests.jobs.test_rnn:train", [[one, None], [stopped, 4]])
    run_ranks(1, "tests.jobs.test_rnn:train", [[stopped, None]])
    saved = Path("distill") / "checkpoints" / f"step_{STEPS:08d}" / "weights.safetensors"
    assert_same(load_file(runs["one"] / saved), load_file(runs["stopped"] / saved), 0.0)
