"""The run folder: what is in it, who may continue it, and when a stage counts as complete."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.paths import with_absolute_paths
from kd_dist.config.stages import SampleTextStage
from kd_dist.errors import RunError, UserError
from kd_dist.runs.completion import complete, is_complete
from kd_dist.runs.layout import open_run, read_stage, run_folder
from kd_dist.runs.stage_runner import run_stage
from tests.conftest import ROOT, TinyWorld
from tests.loading import load_job
from tests.runs.runs import job, written

# ------------------------------------------------------------ what is written


def test_folder_is_named_by_job_and_run_id(tmp_path: Path, settings: list[str]) -> None:
    assert open_run(job(settings), tmp_path / "runs", "first") == tmp_path / "runs" / "tinybert_general" / "first"


@pytest.mark.parametrize(
    "run_id", ["", ".", "..", "../a", "a/b", "/a", "-a", " a", "a\nb", "a\x00", "\udcff", "天" * 70]
)
def test_run_id_that_is_no_name_of_a_folder_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(UserError, match="becomes the name of a folder"):
        run_folder(tmp_path / "runs", "job", run_id)


@pytest.mark.parametrize("folder", ["a:b", "50%j", "a\\b", "two\nlines", "\udcff"])
def test_folder_that_python_or_slurm_would_misread_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(UserError, match="cannot be the folder of a run"):
        run_folder(tmp_path / folder, "job", "a")


def test_any_other_name_is_one(tmp_path: Path) -> None:
    names = ["实验 一", "a b", 'it\'s $(x) `y` & "z"; #!*?[1]{}~<>|', "_.-"]
    assert [run_folder(tmp_path, "job", name).name for name in names] == names


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


LEAVE_REMAINS = """
import os, signal, sys; from pathlib import Path; from kd_dist.files import atomic_path, temporary_folder
with atomic_path(Path(sys.argv[1]) / "job.json") as file, temporary_folder(Path(sys.argv[1]) / "code" / "1a2b") as code:
    file.write_text("half"); (code / "train.py").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_launch_left_half_written_is_removed(tmp_path: Path, settings: list[str]) -> None:
    run_dir = open_run(job(settings), tmp_path / "runs", "a")
    subprocess.run([sys.executable, "-c", LEAVE_REMAINS, str(run_dir)], cwd=ROOT, check=False)
    assert len([path for path in run_dir.rglob("*") if ".tmp-" in path.name]) == 2
    open_run(job(settings), tmp_path / "runs", "a")
    assert [path for path in run_dir.rglob("*") if ".tmp-" in path.name] == []


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
        ("optim.learning_rate=0.5", "distill.optim.learning_rate: None -> 0.5"),
        ("train.steps=7", "distill.train.steps: None -> 7"),
        ("engine.precision=bf16", "distill.engine.precision: 'auto' -> 'bf16'"),
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
    with pytest.raises(UserError, match="texts: the run has no such stage"):
        open_run(larger, tmp_path / "runs", "a")


# ------------------------------------------------------------ fixing a run in place

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
def test_rows_that_a_stage_refused_are_fixed_in_place(tmp_path: Path, rows: list[str], way_out: str) -> None:
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


def corpus(folder: Path) -> Path:
    """A file of raw text, with which `tinybert` distils in general first."""
    file = folder / "corpus.txt"
    file.write_text("text\n", encoding="utf-8")
    return file


def test_after_a_refused_teacher_the_run_goes_on_with_it(tmp_path: Path, rows: list[str]) -> None:
    rows = [*rows, f"data.corpus={corpus(tmp_path)}"]
    run_dir = open_run(task(rows, name="tinybert"), tmp_path / "runs", "a")
    done = ["labelled", "finetune", "corpus", "general"]
    for name in done:
        complete(run_dir / name, seconds=1.0)
    open_run(task(rows, "guards.teacher=warn", name="tinybert"), tmp_path / "runs", "a")
    assert [name for name in written(run_dir / "job.json")["stages"] if is_complete(run_dir / name)] == done
    assert read_stage(run_dir / "check").guards.teacher == "warn"


@pytest.mark.parametrize("something", ["COMPLETE", "shard_00001.COMPLETE", f"{STEP}/state.json"])
def test_stage_with_progress_is_not_changed(tmp_path: Path, settings: list[str], something: str) -> None:
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


def test_removed_stage_and_what_depends_on_it_start_over(
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
    message = "evaluation, serving, report: starting over, because the folder of an earlier stage was removed\n"
    assert capfd.readouterr().out == message


def test_checkpoint_does_not_go_on_from_another_teacher(tmp_path: Path, rows: list[str]) -> None:
    rows = [*rows, f"data.corpus={corpus(tmp_path)}"]
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
