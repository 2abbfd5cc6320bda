"""Models that do not fit each other or the data are found by their config.json alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd_dist.config.families import ALL_FAMILIES, FAMILIES
from kd_dist.planning.checks import load_checked_job
from tests.models.recurrent_models import write_recurrent_config
from tests.planning.refusals import BERT, classifier, model, problems

CLASSIFIER = {"architectures": ["ForSequenceClassification"]}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_teacher_that_is_no_encoder_is_refused(tmp_path: Path, family: str) -> None:
    message = problems(f"teacher.path={model(tmp_path, model_type=family)}")
    assert f"is a `{family}` model, not an encoder that can be distilled; supported families: albert, bert" in message


ATTENTION_IS_READ = {"tinybert_general": [], "minilm": [], "tinybert_task": ["layers.train.epochs=1"]}
NO_LAYERS = sorted(ALL_FAMILIES.keys() - FAMILIES.keys())


@pytest.mark.parametrize("family", NO_LAYERS)
@pytest.mark.parametrize("job", ATTENTION_IS_READ)
def test_attention_that_cannot_be_distilled_is_refused_with_what_can(tmp_path: Path, family: str, job: str) -> None:
    given = [f"teacher.path={model(tmp_path, model_type=family, **CLASSIFIER)}", *ATTENTION_IS_READ[job]]
    said = problems(*given, job=job)
    assert f"is a `{family}` model, whose attention cannot be distilled: {ALL_FAMILIES[family].no_attention}. " in said
    assert "Its predictions can (`--job finetune`" in said
    assert "its hidden states with TinyBERT's objective (objective.attention=none)" in said
    if job != "minilm":
        load_checked_job(job, [*given, "objective.attention=none"], plan_only=True)


@pytest.mark.parametrize("family", NO_LAYERS)
def test_layers_that_cannot_be_run_one_by_one_get_no_exits(tmp_path: Path, family: str) -> None:
    said = problems(f"encoder.path={model(tmp_path, model_type=family)}", job="fastbert")
    assert f"is a `{family}` model, whose layers are not known one by one; supported families: albert, bert" in said
    assert "into which its predictions can be distilled (`--job tinybert_task`)" in said


@pytest.mark.parametrize("family", [*ALL_FAMILIES, "gpt2", "megatron-bert"])
def test_every_family_teaches_by_its_predictions(tmp_path: Path, family: str) -> None:
    path = model(tmp_path, model_type=family, **CLASSIFIER)
    load_checked_job("finetune", [f"encoder.path={path}"], plan_only=True)
    for job in ("tinybert_task", "rnn"):
        load_checked_job(job, [f"teacher.path={path}"], plan_only=True)


def test_layers_of_a_family_that_is_not_known_are_no_start(tmp_path: Path) -> None:
    path = model(tmp_path, model_type="gpt2", **CLASSIFIER)
    said = problems(f"teacher.path={path}", "alone.student.teacher_layers=1,2", job="rnn")
    assert "student.teacher_layers takes layers of albert, bert" in said
    assert "is a `gpt2` model: leave it out" in said


@pytest.mark.parametrize("family", ["modernbert", "xlnet", "gpt2"])
def test_words_that_a_family_cannot_predict_are_no_pretraining(tmp_path: Path, family: str) -> None:
    said = problems(f"student.path={model(tmp_path, model_type=family)}", job="pretrain")
    assert f"is a `{family}` model, for which masked language modelling is not supported" in said


@pytest.mark.parametrize("flag", ["is_decoder", "is_encoder_decoder"])
def test_encoder_family_used_as_decoder_is_refused(tmp_path: Path, flag: str) -> None:
    assert "not an encoder" in problems(f"teacher.path={model(tmp_path, **{flag: True})}")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_supported_family_can_teach(tmp_path: Path, family: str) -> None:
    load_checked_job("tinybert_general", [f"teacher.path={model(tmp_path, model_type=family)}"], plan_only=True)


def test_distilbert_names_are_understood(tmp_path: Path) -> None:
    names = {"num_hidden_layers": None, "num_attention_heads": None, "hidden_size": None}
    teacher = model(tmp_path, model_type="distilbert", n_layers=6, n_heads=12, dim=768, **names)
    load_checked_job("tinybert_general", [f"teacher.path={teacher}"], plan_only=True)
    assert "names layers [7]" in problems(f"teacher.path={teacher}", "objective.layer_map=1,2,3,7")


def test_heads_that_do_not_match_are_refused(tmp_path: Path) -> None:
    message = problems(f"teacher.path={model(tmp_path, num_attention_heads=16)}")
    assert "the teacher has 16 attention heads and the student 12" in message
    assert "Choose a student with 16 heads (student.config), or set objective.attention=none" in message


def test_heads_need_not_match_without_the_attention_term(tmp_path: Path) -> None:
    teacher = model(tmp_path, num_attention_heads=16)
    load_checked_job("tinybert_general", [f"teacher.path={teacher}", "objective.attention_weight=0"], plan_only=True)


def test_heads_of_a_teacher_that_is_trained_by_the_same_job_are_compared(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a\t好\n", encoding="utf-8")
    encoder = f"finetune.encoder.path={model(tmp_path, num_attention_heads=16)}"
    message = problems(encoder, f"data.train={tmp_path / 'train.tsv'}", "layers.train.epochs=1", job="tinybert")
    assert "layers: the teacher has 16 attention heads and the student 12" in message


@pytest.mark.parametrize(
    ("layer_map", "said"),
    [
        ("3,6,9", "names 3 teacher layers, but the student has 4 layers: name one for each"),
        ("3,6,9,13", "names layers [13]: the teacher's layers are 1 to 12"),
        ("0,6,9,12", "names layers [0]: the teacher's layers are 1 to 12"),
    ],
)
def test_layer_map_that_does_not_fit_is_refused(tmp_path: Path, layer_map: str, said: str) -> None:
    assert said in problems(f"teacher.path={model(tmp_path)}", f"objective.layer_map={layer_map}")


def test_student_with_more_layers_than_the_teacher_needs_a_layer_map(tmp_path: Path) -> None:
    teacher = f"teacher.path={model(tmp_path, num_hidden_layers=2)}"
    assert "set objective.layer_map" in problems(teacher)
    load_checked_job("tinybert_general", [teacher, "objective.layer_map=1,1,2,2"], plan_only=True)


@pytest.mark.parametrize("path", ["./nothing", "/no/such/folder", "a/b/c", "~/no/such/folder"])
def test_teacher_folder_that_is_not_there_is_refused(path: str) -> None:
    assert f"teacher.path={path}: no such folder (a Hugging Face directory, or a hub name" in problems(
        f"teacher.path={path}"
    )


def test_teacher_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    teacher = model(tmp_path)
    job = load_checked_job("tinybert_general", ["teacher.path=~/model"], plan_only=True)
    assert job.stages["distill"].teacher.path == str(teacher)


def test_teacher_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    assert "has no config.json: give a Hugging Face directory" in problems(f"teacher.path={tmp_path}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not readable as JSON"),
        ("[]", "expected an object, found list"),
        ('{"model_type": "bert"}', "does not give"),
    ],
)
def test_broken_config_of_a_teacher_is_explained(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert said in problems(f"teacher.path={tmp_path}")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_type": "gpt2"}, "is a `gpt2` model, not an encoder"),
        ({"model_type": None}, "has no model_type in its config.json, and not BERT"),
        ({"hidden_size": None, "num_hidden_layers": 0}, "does not give num_hidden_layers, hidden_size"),
        ({"hidden_size": 100}, "hidden_size=100 does not divide among num_attention_heads=12"),
    ],
)
def test_student_that_cannot_be_built_is_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    assert said in problems(f"student.config={model(tmp_path, **settings) / 'config.json'}")


def test_misspelt_student_is_answered_with_the_nearest() -> None:
    assert "did you mean `tinybert_4l_312`?" in problems("student.config=tinybert_4l_321")


def test_sequences_longer_than_the_positions_are_refused() -> None:
    message = problems("data.max_length=513")
    assert "data.max_length=513 is more than the 512 positions of student.config=tinybert_4l_312" in message


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
@pytest.mark.parametrize("settings", [{}, {"pad_token_id": 1}])
def test_positions_that_a_family_never_uses_do_not_count(tmp_path: Path, family: str, settings: dict[str, Any]) -> None:
    teacher = f"encoder.path={model(tmp_path, model_type=family, max_position_embeddings=514, **settings)}"
    message = problems(teacher, "data.max_length=513", job="finetune")
    assert "finetune: data.max_length=513 is more than the 512 positions of encoder.path=" in message
    load_checked_job("finetune", [teacher, "data.max_length=512"], plan_only=True)


def test_a_trained_classifier_can_get_branches(tmp_path: Path, texts: str) -> None:
    load_checked_job("fastbert_stage1", [classifier(tmp_path), texts])


def test_a_model_with_branches_can_train_them_on(tmp_path: Path, texts: str) -> None:
    names = {"architectures": ["FastBertForSequenceClassification"], "model_type": "fastbert", "backbone": BERT}
    path = classifier(tmp_path, num_hidden_layers=None, num_attention_heads=None, hidden_size=None, **names)
    load_checked_job("fastbert_stage1", [path, texts])


@pytest.mark.parametrize("architectures", [["BertModel"], ["BertForMaskedLM"], None])
def test_branches_on_a_model_without_a_trained_head_are_refused(
    tmp_path: Path, texts: str, architectures: list[str] | None, refused_here: Callable[..., str]
) -> None:
    path = classifier(tmp_path, architectures=architectures)
    message = refused_here("--job", "fastbert_stage1", "--cluster", "local", path, texts)
    assert f"self_distill: {path} has no trained classification head for branches to learn from" in message
    assert f"`--job finetune encoder.path={tmp_path / 'model'} data.train=FILE`, or use `--job fastbert`" in message


def test_a_single_layer_has_nothing_to_exit_before(tmp_path: Path, texts: str) -> None:
    message = problems(classifier(tmp_path, num_hidden_layers=1), texts, job="fastbert_stage1")
    assert message.endswith("has a single layer: there is no layer before the last to exit from")
    names = {"num_hidden_layers": None, "num_attention_heads": None, "hidden_size": None}
    shape = {"model_type": "distilbert", "n_layers": 1, "n_heads": 12, "dim": 768}
    path = classifier(tmp_path, name="distilled", **names, **shape)
    assert "has a single layer" in problems(path, texts, job="fastbert_stage1")


@pytest.mark.parametrize(
    "settings",
    [{"problem_type": "regression"}, {"id2label": {"0": "LABEL_0"}}, {"num_labels": 1}],
    ids=["task", "one_label", "number_of_labels"],
)
def test_a_classifier_that_predicts_a_number_gets_no_branches(
    tmp_path: Path, texts: str, settings: dict[str, Any]
) -> None:
    path = classifier(tmp_path, **settings)
    message = problems(path, texts, job="fastbert_stage1")
    assert message == f"self_distill: {path} predicts a number, which has no uncertainty for early exit to use"


def test_a_single_label_that_may_be_absent_can_get_branches(tmp_path: Path, texts: str) -> None:
    one = {"id2label": {"0": "spam"}, "problem_type": "multi_label_classification"}
    load_checked_job("fastbert_stage1", [classifier(tmp_path, **one), texts])


def test_only_encoders_can_get_branches(tmp_path: Path, texts: str) -> None:
    path = classifier(tmp_path, model_type="gpt2", architectures=["GPT2ForSequenceClassification"])
    message = problems(path, texts, job="fastbert_stage1")
    assert "is a `gpt2` model, not an encoder" in message


def test_texts_longer_than_the_positions_of_the_classifier_are_refused(tmp_path: Path) -> None:
    teacher = model(tmp_path, max_position_embeddings=64)
    message = problems(f"teacher.path={teacher}", "data.max_length=65", job="fastbert")
    assert "self_distill: data.max_length=65 is more than the 64 positions of model.path=@check/model" in message


def test_a_model_with_branches_is_no_teacher_of_layers(tmp_path: Path) -> None:
    names = {"architectures": ["FastBertForSequenceClassification"], "model_type": "fastbert", "backbone": BERT}
    teacher = model(tmp_path, "branched", **names)
    assert "is a `fastbert` model" in problems(f"teacher.path={teacher}", job="tinybert_task")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["student.teacher_layers=1,13"], "student.teacher_layers names layers [13]: the layers of {path} are 1 to 12"),
        (["alone.student.teacher_layers=1"], ""),
    ],
)
def test_layers_that_a_donor_does_not_have_are_refused(tmp_path: Path, settings: list[str], said: str) -> None:
    path = model(tmp_path, architectures=["BertForSequenceClassification"])
    given = [f"teacher.path={path}", *settings]
    if said:
        assert said.format(path=path) in problems(*given, job="tinybert_task")
    else:
        load_checked_job("tinybert_task", given, plan_only=True)


TRAINED = {"architectures": ["BertForSequenceClassification"]}
RECURRENT = {
    "model_type": "recurrent",
    "num_attention_heads": None,
    "architectures": ["RecurrentForSequenceClassification"],
}


@pytest.mark.parametrize("job", ["tinybert_general", "tinybert_task", "pretrain"])
@pytest.mark.parametrize("student", ["bilstm", "bigru"])
def test_a_recurrent_student_has_no_layers_to_distil(tmp_path: Path, job: str, student: str) -> None:
    settings = [f"teacher.path={model(tmp_path, **TRAINED)}"] if job != "pretrain" else []
    settings += ["layers.train.epochs=1"] if job == "tinybert_task" else []
    said = problems(*settings, f"student.config={student}", job=job)
    assert f"student.config={student} is a recurrent model, without layers of attention" in said
    assert "use `--job rnn`" in said


def test_a_recurrent_student_learns_from_predictions(tmp_path: Path) -> None:
    given = [f"teacher.path={model(tmp_path, **TRAINED)}"]
    for job in ("rnn", "tinybert_task"):
        load_checked_job(job, [*given, "student.config=bigru"], plan_only=True)
    said = problems(*given, "engine.activation_checkpointing=true", job="rnn")
    assert "recomputes layers of attention, and student.config=bilstm is a recurrent model: leave it out" in said
    wrong = write_recurrent_config(tmp_path, cell="lstmm")
    assert "cell='lstmm' is not one of lstm, gru; did you mean `lstm`?" in problems(
        *given, f"student.config={wrong}", job="rnn"
    )


def test_a_recurrent_model_is_neither_a_teacher_nor_a_donor_nor_gets_branches(tmp_path: Path, texts: str) -> None:
    recurrent = model(tmp_path, "recurrent", **RECURRENT)
    assert "is a `recurrent` model, not an encoder that can be distilled" in problems(
        f"teacher.path={recurrent}", job="rnn"
    )
    teacher = model(tmp_path, "teacher", **TRAINED)
    said = problems(f"teacher.path={teacher}", f"donor.path={recurrent}", job="rnn")
    assert f"donor.path={recurrent} is a `recurrent` model, not an encoder that can be a donor of embeddings" in said
    assert "is a recurrent model" in problems(f"model.path={recurrent}", texts, job="fastbert_stage1")


def test_a_recurrent_model_can_be_trained_on(tmp_path: Path) -> None:
    teacher, recurrent = model(tmp_path, "teacher", **TRAINED), model(tmp_path, "recurrent", **RECURRENT)
    load_checked_job("rnn", [f"teacher.path={teacher}", f"student.path={recurrent}"], plan_only=True)
    load_checked_job("finetune", [f"encoder.path={recurrent}"], plan_only=True)


def test_a_graph_of_words_neither_learns_nor_teaches_as_an_encoder_does(tmp_path: Path) -> None:
    graph = model(tmp_path, "graph", model_type="textgcn", architectures=["TextGcnForSequenceClassification"])
    said = problems(f"encoder.path={graph}", job="finetune")
    assert f"encoder.path={graph} is a `textgcn` model, not an encoder that can be trained" in said
    said = problems(f"teacher.path={graph}", job="rnn")
    assert "is a `textgcn` model, not an encoder that can be distilled" in said
