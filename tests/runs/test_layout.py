"""The run folder: what is in it, who may continue it, and when a stage counts as complete."""

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd_dist import files
from kd_dist.config.job import Job
from kd_dist.config.jobs import load_job
from kd_dist.config.paths import model_config_file, with_absolute_paths
from kd_dist.config.sections.data import PlainTokenData
from kd_dist.config.sections.evaluation import Evaluate
from kd_dist.config.sections.models import Encoder
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stages import AugmentStage, EvaluateStage, SampleTextStage
from kd_dist.errors import RunError, UserError
from kd_dist.runs import completion, environment
from kd_dist.runs.completion import complete, is_complete
from kd_dist.runs.fingerprints import fingerprints, input_files
from kd_dist.runs.layout import open_run, read_stage
from kd_dist.runs.results import add_result
from kd_dist.runs.stage_runner import run_stage
from tests.conftest import TinyWorld

SECRET = "kd-dist-secret-0123456789"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "nested").mkdir(parents=True)
    for path in (folder / "a.txt", folder / "nested" / "b.txt"):
        path.write_text("今天天气很好。\n", encoding="utf-8")
    return folder


@pytest.fixture
def student(tmp_path: Path) -> Path:
    path = tmp_path / "student.json"
    path.write_bytes(model_config_file("tinybert_4l_312").read_bytes())
    return path


@pytest.fixture
def settings(corpus: Path, student: Path) -> list[str]:
    return [f"data.corpus={corpus}", f"student.config={student}"]


def job(settings: list[str], *more: str) -> Job:
    return with_absolute_paths(load_job("tinybert_general", [*settings, *more]))


def written(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# ------------------------------------------------------------ what is written


def test_folder_is_named_by_job_and_run_id(tmp_path: Path, settings: list[str]) -> None:
    assert open_run(job(settings), tmp_path / "runs", "first") == tmp_path / "runs" / "tinybert_general" / "first"


def test_folder_holds_the_resolved_configuration(tmp_path: Path, settings: list[str]) -> None:
    run_dir = open_run(job(settings, "train.steps=7"), tmp_path / "runs", "a")
    assert written(run_dir / "job.json") == job(settings, "train.steps=7").model_dump()
    assert load_job("tinybert_general", [], run_dir / "job.json") == job(settings, "train.steps=7")


def test_stage_configuration_has_paths_in_place_of_wires(tmp_path: Path, settings: list[str]) -> None:
    run_dir = open_run(job(settings), tmp_path / "runs", "a")
    assert read_stage(run_dir / "distill").data.tokens == str(run_dir / "corpus" / "tokens")
    assert read_stage(run_dir / "report").inputs() == set()
    assert not [path for path in run_dir.glob("*/config.json") if '"@' in path.read_text(encoding="utf-8")]


def test_every_stage_has_a_log_folder(tmp_path: Path, settings: list[str]) -> None:
    run_dir = open_run(job(settings), tmp_path / "runs", "a")
    assert all((run_dir / name / "log").is_dir() for name in job(settings).stages)


def test_files_of_every_model_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    models = {"teacher": str(tmp_path / "model"), "student": "@distill/export", "other": "organisation/name"}
    stage = EvaluateStage(evaluate=Evaluate(models=models), data=PlainTokenData(tokens="@prepare/tokens"))
    assert [row[0] for row in input_files(stage)] == [str(tmp_path / "model" / "config.json")]


def test_environment_is_an_allow_list(tmp_path: Path, settings: list[str]) -> None:
    found = written(open_run(job(settings), tmp_path / "runs", "a") / "environment.json")
    assert set(found) == {"python", "platform", "packages", "git"}
    assert set(found["packages"]) == set(environment.PACKAGES)
    assert found["packages"]["torch"]


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "HF_TOKEN", "MY_SECRET"])
def test_no_secret_is_written(tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    open_run(job(settings), tmp_path / "runs", "a")
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(files) == 8  # job, environment; three stages of two files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_files_are_written_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"old": "价值"})
    with pytest.raises(TypeError):
        files.write_json(path, {"new": object()})
    assert written(path) == {"old": "价值"}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_writing_that_dies_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_text(tmp_path / "x", "old")

    def die(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(OSError, match="no space"):
        files.write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text(encoding="utf-8") == "old"


# ------------------------------------------------------------ who may continue it


def test_same_settings_continue_the_run(tmp_path: Path, settings: list[str]) -> None:
    run_dir = open_run(job(settings), tmp_path / "runs", "a")
    (run_dir / "distill" / "metrics.jsonl").write_text("{}\n", encoding="utf-8")
    assert open_run(job(settings), tmp_path / "runs", "a") == run_dir
    assert (run_dir / "distill" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    "change",
    [
        "resources.nodes=2",
        "resources.timeout_minutes=5",
        "cadence.save_every_n_steps=1",
        "engine.zero_stage=2",
        "tracking.tags=new",
        "data.num_workers=3",
    ],
)
def test_where_and_how_often_may_change(tmp_path: Path, settings: list[str], change: str) -> None:
    run_dir = open_run(job(settings), tmp_path / "runs", "a")
    open_run(job(settings, change), tmp_path / "runs", "a")
    assert written(run_dir / "job.json") == job(settings, change).model_dump()


def all_complete(run_dir: Path) -> Path:
    for name in written(run_dir / "job.json")["stages"]:
        complete(run_dir / name, seconds=1.0)
    return run_dir


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optim.learning_rate=0.5", "distill.optim.learning_rate: 0.0001 -> 0.5"),
        ("train.steps=7", "distill.train.steps: None -> 7"),
        ("engine.precision=bf16", "distill.engine.precision: 'fp32' -> 'bf16'"),
        ("data.max_length=64", "corpus.data.max_length: 128 -> 64"),
        ("objective.layer_map=1,2,3,4", "distill.objective.layer_map: None -> [1, 2, 3, 4]"),
    ],
)
def test_run_id_of_another_configuration_is_refused(
    tmp_path: Path, settings: list[str], change: str, said: str
) -> None:
    run_dir = all_complete(open_run(job(settings), tmp_path / "runs", "a"))
    before = (run_dir / "job.json").read_bytes()
    with pytest.raises(UserError) as caught:
        open_run(job(settings, change), tmp_path / "runs", "a")
    assert caught.value.exit_status == 2
    assert str(caught.value).splitlines() == [
        "run a exists with another configuration:",
        f"  {said}",
        "choose another --run-id, or go back to the settings of that run to continue it",
    ]
    assert (run_dir / "job.json").read_bytes() == before


def test_run_id_with_changed_input_files_is_refused(tmp_path: Path, settings: list[str], corpus: Path) -> None:
    all_complete(open_run(job(settings), tmp_path / "runs", "a"))
    (corpus / "a.txt").write_text("别的\n", encoding="utf-8")
    with pytest.raises(UserError, match="corpus: its input files have changed\nchoose another --run-id"):
        open_run(job(settings), tmp_path / "runs", "a")


def test_run_id_of_a_job_with_other_stages_is_refused(tmp_path: Path, settings: list[str]) -> None:
    open_run(job(settings), tmp_path / "runs", "a")
    larger = job(settings).model_copy(update={"stages": {**job(settings).stages, "texts": SampleTextStage()}})
    with pytest.raises(UserError, match="texts: a stage that the run does not have"):
        open_run(larger, tmp_path / "runs", "a")


# ------------------------------------------------------------ mending a run in place

STEP = "checkpoints/step_00000005"


def leave(stage_dir: Path, *files: str) -> None:
    """Files that the stage wrote."""
    for file in files:
        (stage_dir / file).parent.mkdir(parents=True, exist_ok=True)
        (stage_dir / file).write_text("{}", encoding="utf-8")


def left(stage_dir: Path) -> set[str]:
    return {path.name for path in stage_dir.iterdir()} - {"config.json", "inputs.json"}


@pytest.fixture
def rows(tmp_path: Path, tiny: TinyWorld) -> list[str]:
    """Settings of a job on labelled rows, the second of which has no label."""
    lines = [f"{label}\t{text}" for label, text in zip(["a", "b"] * 20, map(str, range(100, 140)), strict=True)]
    (tmp_path / "rows.tsv").write_text("\n".join([lines[0], "no label", *lines[1:]]), encoding="utf-8")
    return [f"data.train={tmp_path / 'rows.tsv'}", f"teacher.path={tiny.tokenizer}"]


def task(rows: list[str], *more: str, name: str = "finetune") -> Job:
    return with_absolute_paths(load_job(name, [*rows, *more]))


@pytest.mark.parametrize("way_out", ["setting", "file"])
def test_rows_that_a_stage_refused_are_mended_in_place(tmp_path: Path, rows: list[str], way_out: str) -> None:
    run_dir = open_run(task(rows), tmp_path / "runs", "a")
    with pytest.raises(RunError, match=r"rows.tsv(, line |:)2"):
        run_stage(run_dir / "labelled")
    leave(run_dir / "labelled", "log/rank_0.txt", "tokenizer/of_other_rows", "wandb.json")
    if way_out == "file":
        file = tmp_path / "rows.tsv"
        file.write_text(file.read_text(encoding="utf-8").replace("no label\n", ""), encoding="utf-8")
    open_run(task(rows, *(["data.bad_rows=skip"] if way_out == "setting" else [])), tmp_path / "runs", "a")
    assert left(run_dir / "labelled") == {"log"}
    assert (run_dir / "labelled" / "log" / "rank_0.txt").exists()
    run_stage(run_dir / "labelled")
    assert is_complete(run_dir / "labelled")


def test_after_a_refused_teacher_the_run_goes_on_with_it(tmp_path: Path, rows: list[str]) -> None:
    run_dir = open_run(task(rows, name="tinybert"), tmp_path / "runs", "a")
    done = ["labelled", "finetune", "corpus", "general"]
    for name in done:
        complete(run_dir / name, seconds=1.0)
    open_run(task(rows, "guards.teacher=warn", name="tinybert"), tmp_path / "runs", "a")
    assert [name for name in written(run_dir / "job.json")["stages"] if is_complete(run_dir / name)] == done
    assert read_stage(run_dir / "check").guards.teacher == "warn"


@pytest.mark.parametrize("something", ["COMPLETE", "shard_00001.COMPLETE", f"{STEP}/state.json"])
def test_stage_with_something_worth_keeping_is_not_changed(tmp_path: Path, settings: list[str], something: str) -> None:
    run_dir = open_run(job(settings), tmp_path / "runs", "a")
    leave(run_dir / "distill", something)
    with pytest.raises(UserError, match=r"configuration:\n  distill.train.seed: 42 -> 1\nchoose another"):
        open_run(job(settings, "train.seed=1"), tmp_path / "runs", "a")
    assert (run_dir / "distill" / something).exists()


def test_stage_behind_a_changed_one_keeps_what_it_has_and_the_change_is_named(
    tmp_path: Path, settings: list[str]
) -> None:
    run_dir = open_run(job(settings), tmp_path / "runs", "a")
    leave(run_dir / "distill", f"{STEP}/state.json")
    with pytest.raises(UserError) as caught:
        open_run(job(settings, "data.max_length=64"), tmp_path / "runs", "a")
    assert str(caught.value).splitlines()[1:-1] == ["  corpus.data.max_length: 128 -> 64"]
    assert (run_dir / "distill" / STEP).exists()


def test_what_may_change_is_not_named_beside_what_must_not(tmp_path: Path, settings: list[str]) -> None:
    run_dir = open_run(job(settings), tmp_path / "runs", "a")
    complete(run_dir / "corpus", seconds=1.0)
    with pytest.raises(UserError) as caught:
        open_run(job(settings, "data.max_length=64", "train.seed=1"), tmp_path / "runs", "a")
    assert str(caught.value).splitlines()[1:-1] == ["  corpus.data.max_length: 128 -> 64"]


# ------------------------------------------------------------ a stage whose folder was removed


def test_removed_stage_and_what_depends_on_it_run_anew(
    tmp_path: Path, rows: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = all_complete(open_run(task(rows), tmp_path / "runs", "a"))
    leave(run_dir / "finetune", f"{STEP}/state.json", "metrics.jsonl", "wandb.json", "log/rank_0.txt")
    shutil.rmtree(run_dir / "finetune")
    leave(run_dir / "serving", f"{STEP}/state.json", "export/config.json", "log/rank_0.txt")
    open_run(task(rows), tmp_path / "runs", "a")
    assert [name for name in task(rows).stages if is_complete(run_dir / name)] == ["labelled"]
    assert left(run_dir / "serving") == {"log"}
    assert (run_dir / "serving" / "log" / "rank_0.txt").exists()
    told = "evaluation, serving, report: to run anew, since the folder of a stage before was removed\n"
    assert capfd.readouterr().out == told


def test_checkpoint_does_not_go_on_from_another_teacher(tmp_path: Path, rows: list[str]) -> None:
    run_dir = open_run(task(rows, name="tinybert"), tmp_path / "runs", "a")
    for name in ("labelled", "finetune", "check", "general"):
        complete(run_dir / name, seconds=1.0)
    leave(run_dir / "layers", f"{STEP}/state.json")
    leave(run_dir / "alone", f"{STEP}/state.json")
    shutil.rmtree(run_dir / "finetune")
    open_run(task(rows, name="tinybert"), tmp_path / "runs", "a")
    assert not (run_dir / "layers" / STEP).exists()
    assert (run_dir / "alone" / STEP).exists()  # it does without that teacher
    assert is_complete(run_dir / "general")


def test_removed_stage_may_change_with_all_that_depends_on_it(tmp_path: Path, settings: list[str]) -> None:
    run_dir = all_complete(open_run(job(settings), tmp_path / "runs", "a"))
    shutil.rmtree(run_dir / "distill")
    open_run(job(settings, "train.seed=1"), tmp_path / "runs", "a")
    assert read_stage(run_dir / "distill").train.seed == 1
    assert [is_complete(run_dir / name) for name in ("corpus", "distill", "report")] == [True, False, False]


def test_refused_run_loses_nothing(tmp_path: Path, settings: list[str]) -> None:
    run_dir = all_complete(open_run(job(settings), tmp_path / "runs", "a"))
    shutil.rmtree(run_dir / "distill")
    with pytest.raises(UserError, match=r"corpus.data.max_length: 128 -> 64"):
        open_run(job(settings, "data.max_length=64"), tmp_path / "runs", "a")
    assert [is_complete(run_dir / name) for name in ("corpus", "report")] == [True, True]


# ------------------------------------------------------------ fingerprints


@pytest.mark.parametrize("name", ["a.txt", "nested/b.txt"])
def test_changed_corpus_file_changes_every_stage_after_it(settings: list[str], corpus: Path, name: str) -> None:
    before = fingerprints(job(settings))
    (corpus / name).write_text("别的\n", encoding="utf-8")
    after = fingerprints(job(settings))
    assert all(before[stage] != after[stage] for stage in before)


@pytest.mark.parametrize("pattern", ["**/*.txt", "nested", "*/b.txt"])
def test_changed_file_behind_a_pattern_is_noticed(settings: list[str], corpus: Path, pattern: str) -> None:
    settings[0] = f"data.corpus={corpus / pattern}"
    before = fingerprints(job(settings))
    (corpus / "nested" / "b.txt").write_text("别的\n", encoding="utf-8")
    assert fingerprints(job(settings)) != before


def test_changed_architecture_changes_the_stage_that_trains_it(settings: list[str], student: Path) -> None:
    before = fingerprints(job(settings))
    student.write_text(student.read_text(encoding="utf-8").replace("312", "384"), encoding="utf-8")
    after = fingerprints(job(settings))
    assert [name for name in before if before[name] != after[name]] == ["distill", "report"]


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("data.max_length=64", ["corpus", "distill", "report"]),
        ("train.seed=1", ["distill", "report"]),
        ("resources.nodes=2", []),
        ("cadence.log_every_n_steps=1", []),
        ("data.num_workers=3", []),
    ],
)
def test_setting_changes_the_stages_that_depend_on_it(settings: list[str], change: str, changed: list[str]) -> None:
    before, after = fingerprints(job(settings)), fingerprints(job(settings, change))
    assert [name for name in before if before[name] != after[name]] == changed


# ------------------------------------------------------------ complete


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A run of the one cheap stage."""
    stages = {"texts": SampleTextStage()}
    only = Job(name="texts", description="texts only", stages=stages, result="texts")
    return open_run(only, tmp_path / "runs", "a") / "texts"


def test_stage_is_complete_after_it_ran(texts: Path) -> None:
    assert not is_complete(texts)
    run_stage(texts)
    assert is_complete(texts)
    assert (texts / "texts" / "news.txt").stat().st_size > 1_000_000


def test_mistake_that_a_stage_finds_came_too_late_for_status_2(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stage: Any, stage_dir: Path, shard: int) -> None:
        raise UserError("rows.tsv, line 2: no label")

    monkeypatch.setitem(sys.modules, "kd_dist.data.sample_text", SimpleNamespace(run=refuse))
    with pytest.raises(RunError, match=r"^rows.tsv, line 2: no label$") as caught:
        run_stage(texts)
    assert (caught.value.exit_status, is_complete(texts)) == (1, False)


def test_complete_stage_is_left_alone(texts: Path) -> None:
    complete(texts, seconds=1.0)
    run_stage(texts)
    assert not (texts / "texts").exists()


def test_other_ranks_do_not_mark_the_stage(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run_stage(texts)
    assert not is_complete(texts)


def test_stage_with_other_inputs_than_it_ran_with_is_not_complete(texts: Path) -> None:
    complete(texts, seconds=1.0)
    files.write_json(texts / "inputs.json", {"fingerprint": "another", "files": []})
    assert not is_complete(texts)


def test_export_of_the_result_stage_becomes_the_export_of_the_run(texts: Path) -> None:
    for content in ("first", "second"):
        (texts / "export").mkdir(exist_ok=True)
        (texts / "export" / "model").write_text(content, encoding="utf-8")
        complete(texts, seconds=1.0)
        assert (texts.parent / "export" / "model").read_text(encoding="utf-8") == content


# ------------------------------------------------------------ shards


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shards whose work was done, in a stage that does nothing else; its third shard fails."""
    shards: list[int] = []

    def work(stage: Any, stage_dir: Path, shard: int) -> None:
        if shard == 2:
            raise RuntimeError("the third shard failed")
        shards.append(shard)

    monkeypatch.setitem(sys.modules, "kd_dist.augmentation.stage", SimpleNamespace(run=work))
    return shards


def augment(tmp_path: Path, shards: int) -> Path:
    stage = AugmentStage(
        encoder=Encoder(path="none/such"),
        data=PlainTokenData(tokens=str(tmp_path / "tokens")),
        resources=ShardResources(shards=shards),
    )
    only = Job(name="texts", description="augment only", stages={"augment": stage}, result="augment")
    return open_run(only, tmp_path / "runs", "a") / "augment"


def test_shards_run_one_after_another_without_a_launcher(tmp_path: Path, ran: list[int]) -> None:
    stage_dir = augment(tmp_path, shards=2)
    run_stage(stage_dir)
    assert (ran, is_complete(stage_dir)) == ([0, 1], True)


def test_last_of_the_shards_completes_the_stage(
    tmp_path: Path, ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_dir = augment(tmp_path, shards=2)
    run_stage(stage_dir, 1)
    assert (ran, completion.unfinished_shards(stage_dir, 2), is_complete(stage_dir)) == ([1], [0], False)
    assert written(stage_dir / "shard_00001.COMPLETE").keys() == {"fingerprint", "shards", "seconds", "finished"}
    run_stage(stage_dir, 0)
    assert (ran, is_complete(stage_dir)) == ([1, 0], True)


def test_finished_shards_are_left_alone(tmp_path: Path, ran: list[int]) -> None:
    stage_dir = augment(tmp_path, shards=3)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the third shard failed"):
            run_stage(stage_dir)
    assert (ran, completion.unfinished_shards(stage_dir, 3), is_complete(stage_dir)) == ([0, 1], [2], False)


def test_stage_whose_mark_alone_is_missing_gets_it_from_any_shard(tmp_path: Path, ran: list[int]) -> None:
    stage_dir = augment(tmp_path, shards=2)
    run_stage(stage_dir)
    (stage_dir / "COMPLETE").unlink()
    assert completion.shards_to_run(stage_dir, 2) == [0]
    run_stage(stage_dir)
    assert (ran, is_complete(stage_dir)) == ([0, 1], True)


def test_shards_of_another_number_do_not_count_even_when_it_comes_back(tmp_path: Path, ran: list[int]) -> None:
    with pytest.raises(RuntimeError, match="the third shard failed"):
        run_stage(augment(tmp_path, shards=3))
    assert completion.unfinished_shards(augment(tmp_path, shards=2), 2) == [0, 1]
    assert completion.unfinished_shards(augment(tmp_path, shards=3), 3) == [0, 1, 2]


def test_number_of_shards_may_change_after_the_end(tmp_path: Path, ran: list[int]) -> None:
    run_stage(augment(tmp_path, shards=2))
    assert is_complete(augment(tmp_path, shards=1))


# ------------------------------------------------------------ results


def test_results_of_stages_that_run_at_the_same_time_all_count(texts: Path) -> None:
    run_dir = texts.parent
    add_result(run_dir, {"stage": "one", "model": "student", "split": "test"})
    before = (run_dir / "results.json").read_bytes()
    add_result(run_dir, {"stage": "two", "model": "student", "split": "test"})
    (run_dir / "results.json").write_bytes(before)  # as another stage would that had read it before
    run_stage(texts)
    assert [row["stage"] for row in written(run_dir / "results.json")] == ["one", "two"]


def test_result_replaces_the_older_one_of_the_same_model(tmp_path: Path) -> None:
    row = {"stage": "distill", "model": "student", "split": "validation"}
    for loss in (2.0, 1.0):
        add_result(tmp_path, {**row, "loss": loss})
        add_result(tmp_path, {**row, "split": "test", "loss": loss})
    assert [(row["split"], row["loss"]) for row in written(tmp_path / "results.json")] == [
        ("validation", 1.0),
        ("test", 1.0),
    ]
