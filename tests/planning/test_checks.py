"""A user's mistake: found before any work, exit status 2, a message that shows the way out, no traceback."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kd_dist.planning.checks import load_checked_job
from tests.planning.refusals import classifier, model, problems, refused

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
    assert "say what to do with one of --job, --list, --status" in refused_here("--dry-run")


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


@pytest.mark.parametrize(
    ("key", "said"),
    [("teacher.path", "distill: teacher.path="), ("data.corpus", "corpus: data.corpus="), ("student.config", "")],
)
def test_a_text_where_a_path_belongs_is_refused(key: str, said: str, refused_here: Callable[..., str]) -> None:
    text = "今天" * 200
    message = refused_here("--job", "tinybert_general", "--cluster", "local", f"{key}={text}", "trian.steps=3")
    assert text[:61] not in message
    assert f"{said}{text[:20]}" in message
    assert "File name too long" in message
    assert "give the path of a file or folder\n" in message
    assert not said or "did you mean `train.steps`" in message


def test_a_link_to_itself_is_refused(tmp_path: Path, refused_here: Callable[..., str]) -> None:
    (tmp_path / "loop.tsv").symlink_to("loop.tsv")
    message = refused_here("--job", "finetune", "--cluster", "local", "data.train=loop.tsv")
    assert "labelled: data.train=loop.tsv: Too many levels of symbolic links; give the path" in message


def test_stages_that_a_job_would_leave_out_are_not_blamed_where_it_cannot_be_adapted(
    tmp_path: Path, refused_here: Callable[..., str]
) -> None:
    (tmp_path / "rows.tsv").write_text("好\t今天很好\n坏\t今天不好\n" * 20, encoding="utf-8")
    given = ["data.train=rows.tsv", classifier(tmp_path).replace("model.", "teacher."), "distill.train.steps=5"]
    message = refused_here("--job", "tinybert_task", "--cluster", "local", "layers.train.epochs=1", *given)
    assert message.startswith("error: the student without distillation is trained for as long as layers and distill")
    assert "data.unlabelled" not in message  # that stage has nothing to read, and would not be there


def test_corpus_is_checked_before_a_teacher_is_fetched(refused_here: Callable[..., str]) -> None:
    assert "no text file" in refused_here("--job", "tinybert_general", "--cluster", "local")


def test_teacher_that_cannot_be_fetched_is_refused(tmp_path: Path, corpus: Path) -> None:
    overrides = [f"data.corpus={corpus}", "teacher.path=nobody/nothing"]
    message = refused(tmp_path, "--job", "tinybert_general", "--cluster", "local", *overrides)
    assert "teacher.path=nobody/nothing is not a local folder, and could not be downloaded" in message
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


def test_tokens_that_were_not_prepared_are_refused(tmp_path: Path) -> None:
    assert "has no tokenized rows" in problems(f"distill.data.tokens={tmp_path}")


def test_whole_words_need_word_borders() -> None:
    assert "set data.word_starts=true" in problems("objective.whole_word_masking=true", job="pretrain")
    load_checked_job("pretrain", ["objective.whole_word_masking=true", "data.word_starts=true"], plan_only=True)


def test_batch_that_does_not_divide_among_the_ranks_is_refused() -> None:
    message = problems("resources.nodes=3", "resources.gpus_per_node=2")
    assert (
        "do not divide among 6 ranks: set distill.train.global_batch_size=192 distill.train.micro_batch_size=32"
        in message
    )


# ------------------------------------------------------------ early exit


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


def test_a_branch_must_divide_among_its_heads(tmp_path: Path, texts: str) -> None:
    message = problems(classifier(tmp_path), texts, "objective.branch_heads=7", job="fastbert_stage1")
    assert message == "self_distill: objective.branch_width=128 does not divide among objective.branch_heads=7"


def test_every_problem_of_early_exit_is_reported_together(tmp_path: Path) -> None:
    path = classifier(tmp_path, architectures=["BertModel"], num_hidden_layers=1)
    message = problems(path, "objective.branch_heads=7", job="fastbert_stage1", plan_only=False)
    assert message.startswith("4 problems:")
    for part in ("data.unlabelled is empty", "branch_heads=7", "no trained classification head", "a single layer"):
        assert part in message


def test_a_number_has_no_uncertainty(tmp_path: Path) -> None:
    message = problems("data.task=regression", f"teacher.path={model(tmp_path)}", job="fastbert")
    assert (
        "self_distill: data.task=regression predicts a number, which has no uncertainty for early exit to use"
        in message
    )


def test_activation_checkpointing_is_refused_where_it_does_nothing(tmp_path: Path, texts: str) -> None:
    path = classifier(tmp_path)
    message = problems(path, texts, "engine.activation_checkpointing=true", job="fastbert_stage1")
    assert message.startswith("self_distill: engine.activation_checkpointing=true does nothing where only branches")
    teacher = f"teacher.path={tmp_path / 'model'}"
    load_checked_job("fastbert", [teacher, "finetune.engine.activation_checkpointing=true"], plan_only=True)


def test_only_branches_can_be_calibrated(tmp_path: Path) -> None:
    plain = model(tmp_path)
    message = problems(f"calibration.model.path={plain}", f"teacher.path={plain}", job="fastbert")
    assert "has no branches to calibrate: give the export of fastbert_stage1" in message


def test_patience_has_no_target(tmp_path: Path) -> None:
    settings = ["calibrate.patience=2", "calibrate.target_speedup=3", f"teacher.path={model(tmp_path)}"]
    assert "calibrate.patience exits without thresholds" in problems(*settings, job="fastbert")


# ------------------------------------------------------------ teacher outputs and augmentation


def test_stored_outputs_are_for_the_stage_that_learns_from_predictions(tmp_path: Path) -> None:
    teacher = f"teacher.path={model(tmp_path, architectures=['BertForSequenceClassification'])}"
    message = problems(teacher, f"data.teacher_outputs={tmp_path}", "layers.train.epochs=3", job="tinybert_task")
    for stage in ("layers", "alone"):
        assert f"{stage}: data.teacher_outputs is not used by a stage that does not learn from the teacher's" in message
    assert message.count("set distill.data.teacher_outputs instead") == 2
    assert "leave the key out" in problems(f"data.teacher_outputs={tmp_path}")
    load_checked_job("tinybert_task", [teacher, f"distill.data.teacher_outputs={tmp_path}"], plan_only=True)


@pytest.fixture
def vectors(tmp_path: Path) -> str:
    (tmp_path / "vectors.txt").write_text("词 0.1 0.2\n", encoding="utf-8")
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
    assert "augmentation: augment.keep_confidence needs the probability of a label, but data.task=regr" in message


def test_a_graph_and_its_rows_must_be_there_and_have_the_metric(tmp_path: Path) -> None:
    settings = [f"textgcn.data.graph={tmp_path}", f"textgcn.data.tokens={tmp_path}", f"graph.data.tokens={tmp_path}"]
    said = problems(*settings, job="textgcn").splitlines()
    rows = f"data.tokens={tmp_path} has no tokenized rows (no statistics.json): give the tokens of a run"
    assert any(line.endswith(f"graph: {rows}") for line in said)
    assert any(line.endswith(f"textgcn: {rows}") for line in said)
    assert any(
        f"textgcn: data.graph={tmp_path} has no graph (no adjacency.safetensors): give the" in line for line in said
    )
    message = problems("selection.metric=spearman", job="textgcn")
    assert "selection.metric=spearman: a single_label task has only auto, loss, accuracy, macro_f1" in message
