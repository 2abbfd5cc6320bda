"""A user's mistake: found before any work, exit status 2, a message that shows the way out, no traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd_dist.config.families import FAMILIES
from kd_dist.config.model_folders import num_positions
from kd_dist.config.paths import REPOSITORY
from kd_dist.errors import UserError, exit_with_message
from kd_dist.planning.checks import load_checked_job
from launch import slurm
from tests.model_folders import write_vocabulary, write_weights

BERT = {"model_type": "bert", "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}


def model(folder: Path, name: str = "model", **settings: Any) -> Path:
    """A Hugging Face directory without numbers in its weights; a setting of None leaves the key out."""
    (folder / name).mkdir()
    content = {key: value for key, value in {**BERT, **settings}.items() if value is not None}
    (folder / name / "config.json").write_text(json.dumps(content), encoding="utf-8")
    write_weights(folder / name, content)
    write_vocabulary(folder / name)
    return folder / name


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("今天天气很好。\n", encoding="utf-8")
    return path


def refused(folder: Path, *arguments: str, **environment: str) -> str:
    """What the command line says on stderr; asserts exit status 2, no traceback, and an empty runs folder."""
    ended = subprocess.run(
        [sys.executable, str(REPOSITORY / "launch" / "slurm.py"), *arguments],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (folder / "runs").exists(), "work was done before the mistake was found"
    return ended.stderr


@pytest.fixture
def refused_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """`refused` without the start of a process."""

    def refused(*arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["launch/slurm.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            exit_with_message(slurm.main)
        assert ended.value.code == 2
        assert not (tmp_path / "runs").exists(), "work was done before the mistake was found"
        return capsys.readouterr().err

    return refused


def problems(*overrides: str, job: str = "tinybert_general", plan_only: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        load_checked_job(job, list(overrides), plan_only=plan_only)
    assert caught.value.exit_status == 2
    return str(caught.value)


# ------------------------------------------------------------ the command line


def test_unknown_option_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, "--job", "tinybert_general", "--dry-run", "trian.steps=3")
    assert message == "error: unknown option `trian.steps`; did you mean `train.steps`?\n"


def test_misspelt_job_is_refused(refused_here: Callable[..., str]) -> None:
    assert "did you mean `tinybert_general`?" in refused_here("--job", "tinybert_genral")


def test_misspelt_flag_is_refused(refused_here: Callable[..., str]) -> None:
    assert "--clustr" in refused_here("--job", "tinybert_general", "--clustr", "local")


def test_settings_without_a_job_are_refused(refused_here: Callable[..., str]) -> None:
    assert "settings need a --job" in refused_here("--list", "train.steps=3")


def test_command_without_a_job_is_refused(refused_here: Callable[..., str]) -> None:
    assert "--job --list --status" in refused_here()


def test_missing_default_corpus_is_refused_when_it_is_needed(tmp_path: Path, refused_here: Callable[..., str]) -> None:
    teacher = model(tmp_path)
    message = refused_here("--job", "tinybert_general", "--cluster", "local", f"teacher.path={teacher}")
    assert f"no text file matches '{tmp_path}/data/*.txt'" in message


def test_named_missing_corpus_is_refused_by_a_dry_run_too(tmp_path: Path) -> None:
    message = refused(tmp_path, "--job", "tinybert_general", "--dry-run", "data.corpus=nothing/*.txt")
    assert "corpus: data.corpus: no text file matches" in message
    assert "give existing files, globs, or folders" in message


def test_problems_of_every_kind_are_reported_at_once(tmp_path: Path) -> None:
    overrides = ["trian.steps=3", "data.corpus=nothing.txt", f"teacher.path={model(tmp_path, num_attention_heads=16)}"]
    message = refused(tmp_path, "--job", "tinybert_general", *overrides, "resources.gpus_per_node=3")
    assert message.startswith("error: 4 problems:\n")
    for part in ("did you mean `train.steps`", "nothing.txt", "16 attention heads", "divide among 3 ranks"):
        assert part in message


def test_corpus_is_checked_before_a_teacher_is_fetched(refused_here: Callable[..., str]) -> None:
    assert "no text file" in refused_here("--job", "tinybert_general", "--cluster", "local")


def test_teacher_that_cannot_be_fetched_is_refused(tmp_path: Path, corpus: Path) -> None:
    overrides = [f"data.corpus={corpus}", "teacher.path=nobody/nothing"]
    message = refused(tmp_path, "--job", "tinybert_general", "--cluster", "local", *overrides)
    assert "teacher.path=nobody/nothing is no folder here, and could not be fetched" in message
    assert "Give the path of a Hugging Face directory" in message


def test_without_sbatch_the_other_ways_are_named(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "bin").mkdir()
    overrides = [f"data.corpus={corpus}", f"teacher.path={model(tmp_path)}"]
    message = refused(tmp_path, "--job", "tinybert_general", *overrides, PATH=str(tmp_path / "bin"))
    assert "no sbatch" in message
    assert "--cluster local" in message
    assert "--dry-run" in message


def test_cluster_profile_with_an_unknown_key_is_refused(tmp_path: Path, refused_here: Callable[..., str]) -> None:
    (tmp_path / "site.yaml").write_text("partitoin: gpu\n", encoding="utf-8")
    message = refused_here("--job", "tinybert_general", "--cluster", "site.yaml", "--dry-run")
    assert "site.yaml: unknown key `partitoin`; did you mean `partition`?" in message


def test_unknown_cluster_is_refused(refused_here: Callable[..., str]) -> None:
    message = refused_here("--job", "tinybert_general", "--cluster", "slrum", "--dry-run")
    assert "did you mean `slurm`?; shipped are: example, local, slurm" in message


def test_status_of_what_is_no_run_is_refused(tmp_path: Path, refused_here: Callable[..., str]) -> None:
    assert f"--status {tmp_path}: not a run folder" in refused_here("--status", str(tmp_path))


# ------------------------------------------------------------ corpus


@pytest.mark.parametrize("value", ["", "[]"])
def test_no_corpus_is_refused(value: str) -> None:
    assert "data.corpus is empty: name text files" in problems(f"data.corpus={value}")


def test_corpus_of_empty_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert f"data.corpus={tmp_path}: there is no text in these files" in problems(f"data.corpus={tmp_path}")


def test_corpus_folder_without_text_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"1")
    assert "no text file matches" in problems(f"data.corpus={tmp_path}")


def test_every_missing_corpus_is_named(corpus: Path) -> None:
    message = problems(f"data.corpus={corpus},one.txt,two.txt")
    assert "one.txt" in message
    assert "two.txt" in message
    assert f"'{corpus}'" not in message


def test_tokens_that_were_not_prepared_are_refused(tmp_path: Path) -> None:
    assert "holds no prepared rows" in problems(f"distill.data.tokens={tmp_path}")


def test_whole_words_need_word_borders() -> None:
    assert "set data.word_starts=true" in problems("objective.whole_word_masking=true", job="pretrain")
    load_checked_job("pretrain", ["objective.whole_word_masking=true", "data.word_starts=true"], plan_only=True)


# ------------------------------------------------------------ teacher and student


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_teacher_that_is_no_encoder_is_refused(tmp_path: Path, family: str) -> None:
    message = problems(f"teacher.path={model(tmp_path, model_type=family)}")
    assert f"is a `{family}` model, not an encoder that can be distilled; supported families: albert, bert" in message


@pytest.mark.parametrize("flag", ["is_decoder", "is_encoder_decoder"])
def test_encoder_family_used_as_decoder_is_refused(tmp_path: Path, flag: str) -> None:
    assert "not an encoder" in problems(f"teacher.path={model(tmp_path, **{flag: True})}")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_supported_family_can_teach(tmp_path: Path, family: str) -> None:
    load_checked_job("tinybert_general", [f"teacher.path={model(tmp_path, model_type=family)}"], plan_only=True)


def test_families_are_those_whose_attention_can_be_captured() -> None:
    code = "from kd_dist.models.attention import SUPPORTED_FAMILIES as f; print(*sorted(f))"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.split() == sorted(FAMILIES)
    assert set(FAMILIES) == {"albert", "bert", "distilbert", "electra", "ernie", "roberta", "xlm-roberta"}


def test_distilbert_names_are_understood(tmp_path: Path) -> None:
    names = {"num_hidden_layers": None, "num_attention_heads": None, "hidden_size": None}
    teacher = model(tmp_path, model_type="distilbert", n_layers=6, n_heads=12, dim=768, **names)
    load_checked_job("tinybert_general", [f"teacher.path={teacher}"], plan_only=True)
    assert "names layers [7]" in problems(f"teacher.path={teacher}", "objective.layer_map=1,2,3,7")


def test_heads_that_do_not_match_are_refused(tmp_path: Path) -> None:
    message = problems(f"teacher.path={model(tmp_path, num_attention_heads=16)}")
    assert "the teacher has 16 attention heads and the student 12" in message
    assert "Choose a student with 16 heads (student.config), or set objective.attention_weight=0" in message


def test_heads_need_not_match_without_the_attention_term(tmp_path: Path) -> None:
    teacher = model(tmp_path, num_attention_heads=16)
    load_checked_job("tinybert_general", [f"teacher.path={teacher}", "objective.attention_weight=0"], plan_only=True)


def test_heads_of_a_teacher_that_is_trained_by_the_same_job_are_compared() -> None:
    message = problems("general.student.config=tinybert_4l_312", job="demo")
    assert "general: the teacher has 4 attention heads and the student 12" in message


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
    assert "holds no config.json: not a Hugging Face directory" in problems(f"teacher.path={tmp_path}")


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "is not readable as JSON"), ("[]", "expected an object, found list"), ('{"model_type": "bert"}', "not say")],
)
def test_broken_config_of_a_teacher_is_explained(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert said in problems(f"teacher.path={tmp_path}")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_type": "gpt2"}, "is a `gpt2` model, not an encoder"),
        ({"model_type": None}, "has no model_type in its config.json, and not BERT"),
        ({"hidden_size": None, "num_hidden_layers": 0}, "does not say num_hidden_layers, hidden_size"),
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


@pytest.mark.parametrize("family", FAMILIES)
def test_login_node_and_models_agree_on_the_positions(family: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(family)
    offset = config.pad_token_id + 1 if FAMILIES[family].offset_positions else 0
    assert num_positions(config.to_dict()) == config.max_position_embeddings - offset


def test_batch_that_does_not_divide_among_the_ranks_is_refused() -> None:
    message = problems("resources.nodes=3", "resources.gpus_per_node=2")
    assert "do not divide among 6 ranks: set train.global_batch_size to a multiple of 6" in message


# ------------------------------------------------------------ early exit


@pytest.fixture
def texts(corpus: Path) -> str:
    return f"data.unlabelled={corpus}"


def classifier(folder: Path, **settings: Any) -> str:
    return f"model.path={model(folder, **{'architectures': ['BertForSequenceClassification']} | settings)}"


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
    assert f"self_distill: {path} has no trained classification head, and branches learn from that" in message
    assert f"`--job finetune encoder.path={tmp_path / 'model'} data.train=FILE`, or use `--job fastbert`" in message


def test_a_model_that_is_only_checked_before_needs_a_trained_head_too(tmp_path: Path) -> None:
    encoder = model(tmp_path, architectures=["BertModel"])
    message = problems(f"check.evaluate.models=teacher:{encoder}", f"teacher.path={encoder}", job="fastbert")
    assert message.startswith(f"check: {encoder} has no trained classification head")


def test_a_teacher_of_labels_needs_a_trained_head(tmp_path: Path) -> None:
    encoder = model(tmp_path, architectures=["BertForMaskedLM"])
    message = problems(f"teacher.path={encoder}", job="tinybert_task")
    assert message.startswith(f"check: {encoder} has no trained classification head")
    assert f"`--job finetune encoder.path={encoder} data.train=FILE`, or use `--job tinybert`" in message
    (encoder / "config.json").write_text("{")
    assert "config.json" in problems(f"teacher.path={encoder}", job="tinybert_task")


def test_a_single_layer_has_nothing_to_leave_before(tmp_path: Path, texts: str) -> None:
    message = problems(classifier(tmp_path, num_hidden_layers=1), texts, job="fastbert_stage1")
    assert message.endswith("has a single layer: there is no layer before the last to exit from")
    names = {"num_hidden_layers": None, "num_attention_heads": None, "hidden_size": None}
    shape = {"model_type": "distilbert", "n_layers": 1, "n_heads": 12, "dim": 768}
    path = classifier(tmp_path, name="distilled", **names, **shape)
    assert "has a single layer" in problems(path, texts, job="fastbert_stage1")


def test_a_branch_must_divide_among_its_heads(tmp_path: Path, texts: str) -> None:
    message = problems(classifier(tmp_path), texts, "objective.branch_heads=7", job="fastbert_stage1")
    assert message == "self_distill: objective.branch_width=128 does not divide among objective.branch_heads=7"


def test_every_problem_of_early_exit_is_told_at_once(tmp_path: Path) -> None:
    path = classifier(tmp_path, architectures=["BertModel"], num_hidden_layers=1)
    message = problems(path, "objective.branch_heads=7", job="fastbert_stage1", plan_only=False)
    assert message.startswith("4 problems:")
    for part in ("data.unlabelled is empty", "branch_heads=7", "no trained classification head", "a single layer"):
        assert part in message


def test_a_number_has_no_uncertainty(tmp_path: Path) -> None:
    message = problems("data.task=regression", f"teacher.path={model(tmp_path)}", job="fastbert")
    assert (
        "self_distill: data.task=regression predicts a number, which has no uncertainty that early exit could go by"
        in message
    )


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
    assert message == f"self_distill: {path} predicts a number, which has no uncertainty that early exit could go by"


def test_a_single_label_that_may_be_absent_can_get_branches(tmp_path: Path, texts: str) -> None:
    one = {"id2label": {"0": "spam"}, "problem_type": "multi_label_classification"}
    load_checked_job("fastbert_stage1", [classifier(tmp_path, **one), texts])


def test_activation_checkpointing_is_refused_where_it_does_nothing(tmp_path: Path, texts: str) -> None:
    path = classifier(tmp_path)
    message = problems(path, texts, "engine.activation_checkpointing=true", job="fastbert_stage1")
    assert message.startswith("self_distill: engine.activation_checkpointing=true does nothing where only branches")
    teacher = f"teacher.path={tmp_path / 'model'}"
    load_checked_job("fastbert", [teacher, "finetune.engine.activation_checkpointing=true"], plan_only=True)


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


def test_only_branches_can_be_calibrated(tmp_path: Path) -> None:
    plain = model(tmp_path)
    message = problems(f"calibration.model.path={plain}", f"teacher.path={plain}", job="fastbert")
    assert "has no branches: give the export of fastbert_stage1" in message


def test_patience_has_no_target(tmp_path: Path) -> None:
    settings = ["calibrate.patience=2", "calibrate.target_speedup=3", f"teacher.path={model(tmp_path)}"]
    assert "calibrate.patience leaves no threshold" in problems(*settings, job="fastbert")


# ------------------------------------------------------------ teacher outputs and augmentation


def test_stored_outputs_are_for_the_stage_that_learns_from_predictions(tmp_path: Path) -> None:
    teacher = f"teacher.path={model(tmp_path, architectures=['BertForSequenceClassification'])}"
    message = problems(teacher, f"data.teacher_outputs={tmp_path}", job="tinybert_task")
    for stage in ("layers", "alone"):
        assert f"{stage}: data.teacher_outputs has no use in a stage that does not learn from the teacher's" in message
    assert message.count("set distill.data.teacher_outputs instead") == 2
    assert "leave the key out" in problems(f"data.teacher_outputs={tmp_path}")
    load_checked_job("tinybert_task", [teacher, f"distill.data.teacher_outputs={tmp_path}"], plan_only=True)


@pytest.fixture
def vectors(tmp_path: Path) -> str:
    (tmp_path / "vectors.txt").write_text("词 0.1\n", encoding="utf-8")
    return f"augment.word_vectors={tmp_path / 'vectors.txt'}"


def test_a_filter_needs_no_language_model_beside_word_vectors(tmp_path: Path, vectors: str) -> None:
    settings = [f"teacher.path={model(tmp_path, architectures=['BertModel'])}", vectors, "augment.keep_confidence=0.5"]
    load_checked_job("tinybert", settings, plan_only=True)
    assert "augmentation: augment.multi_piece=mask needs a masked language model" in problems(
        *settings, "augment.multi_piece=mask", job="tinybert"
    )


def test_a_filter_asks_for_probabilities(tmp_path: Path, vectors: str) -> None:
    settings = [f"teacher.path={model(tmp_path)}", vectors, "augment.keep_confidence=0.5", "data.task=regression"]
    message = problems(*settings, job="tinybert")
    assert "augmentation: augment.keep_confidence asks for the probability of a label, and data.task=regr" in message
