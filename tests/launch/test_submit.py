"""Submission to SLURM: the edges between jobs, arrays, and what is refused."""

from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission

from kd_dist.config.job import Job
from kd_dist.files import read_json
from kd_dist.runs.completion import complete
from kd_dist.runs.layout import open_run
from kd_dist.runs.tries import Tries
from launch.cluster import Cluster
from launch.submit import submit
from tests.launch.launching import CORPUS, DISTILL, REPORT, command, finish_shard, general_job, shown


def jobs_of(folder: Path) -> dict[str, str]:
    return read_json(folder / "runs/tinybert_general/a/submission.json")


def test_stages_are_submitted_with_edges_between_them(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    text = shown(tmp_path, "--job", "tinybert_general", "--run-id", "a", *settings, path=scheduler)
    assert jobs_of(tmp_path) == {CORPUS: "101", DISTILL: "102", REPORT: "103"}
    for line in (f"{CORPUS}: job 101", f"{DISTILL}: job 102, after 101", "--status"):
        assert line in text


def test_students_of_one_teacher_are_one_job_in_the_queue(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    given = [text for text in settings if not text.startswith("student.config=")]
    arguments = ["--job", "tinybert_general", "--run-id", "a", *given, "students=bert_base@1,bert_base@2"]
    text = shown(tmp_path, *arguments, path=scheduler)
    first, second = "distill_bert_base_init1", "distill_bert_base_init2"
    assert jobs_of(tmp_path) == {CORPUS: "101", first: "102", second: "102", REPORT: "103"}
    assert f"{second}: job 102, together with {first}" in text
    assert f"{REPORT}: job 103, after 102\n" in text


def test_submitted_file_is_the_one_that_the_dry_run_shows(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    arguments = ["--job", "tinybert_general", "--run-id", "a", *settings]
    plan = shown(tmp_path, *arguments, "--dry-run", "--verbose", path=scheduler)
    shown(tmp_path, *arguments, path=scheduler)
    run_dir = tmp_path / "runs/tinybert_general/a"
    (code,) = (run_dir / "code").iterdir()
    for known, real in {f"'afterok:<job id of {CORPUS}>'": "afterok:101", f"<job id of {DISTILL}>": "102"}.items():
        plan = plan.replace(known, real)
    for stage in (CORPUS, DISTILL):
        text = next((run_dir / stage / "log").glob("*.sh")).read_text(encoding="utf-8")
        assert text.strip().replace(str(code), "CODE") in plan.replace(f"'{run_dir}/code/<snapshot>'", "CODE")


def test_array_has_an_element_for_each_shard_and_the_next_stage_waits_for_all(
    tmp_path: Path, sharded: Job, scheduler: Path, code: Path
) -> None:
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    assert submit(sharded, run_dir, Cluster(), code) == {"augment": "101", "collect": "102"}
    log = run_dir / "augment" / "log"
    assert "#SBATCH --array=0-2%3" in (log / "101_submission.sh").read_text(encoding="utf-8")
    tasks = [DelayedSubmission.load(log / f"101_{index}_submitted.pkl").function for index in range(3)]
    assert [(task.stage_dir, task.shard) for task in tasks] == [(run_dir / "augment", shard) for shard in range(3)]
    after = (run_dir / "collect" / "log" / "102_submission.sh").read_text(encoding="utf-8")
    assert "#SBATCH --dependency=afterok:101\n" in after


@pytest.mark.parametrize(("finished", "left"), [([1], [0, 2]), ([0, 1], [2]), ([0, 1, 2], [0])])
def test_only_unfinished_shards_are_submitted_again(
    tmp_path: Path,
    sharded: Job,
    scheduler: Path,
    code: Path,
    finished: list[int],
    left: list[int],
) -> None:
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    for shard in finished:
        finish_shard(run_dir / "augment", shard, shards=3)
    submit(sharded, run_dir, Cluster(), code)
    log = run_dir / "augment" / "log"
    tasks = [DelayedSubmission.load(path).function for path in sorted(log.glob("*_submitted.pkl"))]
    assert [task.shard for task in tasks] == left
    assert ("--array=" in (log / "101_submission.sh").read_text(encoding="utf-8")) == (len(left) > 1)


def test_complete_stages_are_not_submitted(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    job = general_job(settings)
    complete(open_run(job, tmp_path / "runs", "a") / CORPUS, seconds=1.0)
    text = shown(tmp_path, "--job", "tinybert_general", "--run-id", "a", *settings, path=scheduler)
    assert f"{CORPUS}: complete, skipped" in text
    assert jobs_of(tmp_path) == {DISTILL: "101", REPORT: "102"}


def test_refusal_by_slurm_is_explained(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    (scheduler / "sbatch.refuse").write_text("102", encoding="utf-8")
    ended = command(tmp_path, "--job", "tinybert_general", "--run-id", "a", *settings, path=scheduler)
    assert ended.returncode == 2
    assert f"error: stage {DISTILL} was refused by SLURM: sbatch: error: invalid partition" in ended.stderr
    assert "withdrawing what was submitted: 101\n" in ended.stderr
    assert "nothing of the run is left in the queue" in ended.stderr
    assert (scheduler / "scancel.asked").read_text(encoding="utf-8") == "101\n"
    assert "Traceback" not in ended.stderr


def test_refusal_of_the_first_stage_leaves_nothing_to_withdraw(
    tmp_path: Path, settings: list[str], scheduler: Path
) -> None:
    (scheduler / "sbatch.refuse").write_text("101", encoding="utf-8")
    ended = command(tmp_path, "--job", "tinybert_general", "--run-id", "a", *settings, path=scheduler)
    assert (ended.returncode, "withdrawing" in ended.stderr) == (2, False)
    assert not (scheduler / "scancel.asked").exists()


def test_tries_of_an_earlier_submission_do_not_count(tmp_path: Path, sharded: Job, scheduler: Path, code: Path) -> None:
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    for shard in range(3):
        Tries(run_dir / "augment", shard).note("final")
    submit(sharded, run_dir, Cluster(), code)
    (run_dir / "augment" / "shards").mkdir()
    (run_dir / "augment" / "shards" / "block_00000000.parquet").touch()
    assert [Tries(run_dir / "augment", shard).verdict(3).again for shard in range(3)] == [True] * 3
