"""`students=a,b`: a stage for each student, what reads them, and which settings reach one or all."""

from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, job_names, resolve_job
from kd_dist.config.sections.models import Student
from kd_dist.errors import UserError
from kd_dist.files import write_json
from kd_dist.runs.fingerprints import fingerprints
from tests.loading import load_job

TWO = "students=bert_3l_192,tinybert_4l_312"

FIRST, SECOND = "distill_bert_3l_192", "distill_tinybert_4l_312"


def general(*settings: str) -> Job:
    return load_job("tinybert_general", list(settings))


def problems(*settings: str, job: str = "tinybert_general") -> list[str]:
    return resolve_job(job, list(settings)).problems


def test_each_student_has_a_stage_and_the_report_reads_all() -> None:
    job = general(TWO)
    assert list(job.stages) == ["corpus", FIRST, SECOND, "report"]
    assert [job.stages[name].student.config for name in (FIRST, SECOND)] == ["bert_3l_192", "tinybert_4l_312"]
    assert job.stages["report"].page.stages == [f"@{FIRST}", f"@{SECOND}"]
    assert job.together == {"distill": [FIRST, SECOND]}
    assert job.companions(FIRST) == [SECOND]
    assert job.companions("corpus") == []
    assert job.notes == [f"one pass of the teacher serves 2 students: {FIRST}, {SECOND}"]
    assert job.given["students"] == "bert_3l_192,tinybert_4l_312"


@pytest.mark.parametrize("job", ["tinybert_general", "minilm"])
def test_without_the_setting_nothing_changes(job: str) -> None:
    assert load_job(job, []).stages == find_job(job).stages


def test_a_stage_is_the_one_of_that_student_alone() -> None:
    alone, together = general("student.config=bert_3l_192"), general(TWO)
    assert together.stages[FIRST] == alone.stages["distill"]
    assert fingerprints(together)[FIRST] == fingerprints(alone)["distill"]


def test_one_size_starts_from_several_seeds_and_a_folder_from_its_weights(tmp_path: Path) -> None:
    export = tmp_path / "my small" / "export"
    export.mkdir(parents=True)
    write_json(tmp_path / "mine.json", {})
    job = general(f"students=bert_base@1,bert_base@2,{export},{tmp_path / 'mine.json'}")
    found = {name: job.stages[name].student for name in job.together["distill"]}
    assert found == {
        "distill_bert_base_init1": Student(config="bert_base", init="projected", seed=1),
        "distill_bert_base_init2": Student(config="bert_base", init="projected", seed=2),
        "distill_my_small": Student(path=str(export)),
        "distill_mine": Student(config=str(tmp_path / "mine.json")),
    }
    seeds = [job.stages[name].initial_seed() for name in found]
    assert seeds == [1, 2, 42, 42]


def test_the_nearer_a_setting_is_to_a_student_the_more_it_counts(tmp_path: Path) -> None:
    one, all_of_them, every = f"{FIRST}.train.steps=3", "distill.train.steps=2", "train.steps=1"
    assert [general(TWO, one, all_of_them, every).stages[name].train.steps for name in (FIRST, SECOND)] == [3, 2]
    file = tmp_path / "settings.yaml"
    file.write_text("students: [bert_3l_192, tinybert_4l_312]\ndistill: {train: {steps: 7}}\n", encoding="utf-8")
    job = load_job("tinybert_general", [one], file)
    assert [job.stages[name].train.steps for name in (FIRST, SECOND)] == [3, 7]


def test_a_run_is_repeated_with_its_students(tmp_path: Path) -> None:
    job, file = general(TWO, "train.steps=5"), tmp_path / "job.json"
    write_json(file, job.model_dump())
    again = load_job("tinybert_general", ["distill.train.steps=6"], file)
    assert again.together == job.together
    assert [again.stages[name].train.steps for name in (FIRST, SECOND)] == [6, 6]
    with pytest.raises(UserError, match="the run that --config repeats has its students already: leave it out"):
        load_job("tinybert_general", ["students=bert_base"], file)


@pytest.mark.parametrize(
    "value", ["true", "3", "[1, bert_base]", "{a: bert_base}", "[bert_base, [bert_base]]", "['', bert_base]"]
)
def test_what_a_file_gives_in_place_of_names_is_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"students: {value}\n", encoding="utf-8")
    said = resolve_job("tinybert_general", [], tmp_path / "run.yaml").problems
    assert len(said) == 1
    assert "is no list of names: give for example students=tinybert_4l_312,tinybert_6l_768" in said[0]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ([TWO, "student.config=bert_base"], "student.config=bert_base would replace what students names: leave one"),
        ([TWO, "distill.student.seed=3"], "distill.student.seed=3 would replace what students names"),
        ([TWO, f"{FIRST}.student.path=x"], f"{FIRST}.student.path=x would replace what students names"),
        (["students="], "students names no student: give for example students=tinybert_4l_312,tinybert_6l_768"),
        (["students=bert_base,bert_base"], "students: two are called `bert_base`; one size starts in several ways as"),
        ([TWO, f"{SECOND}.train.seed=7"], f"{SECOND}.train.seed=7, but {FIRST} has 42, and students that one pass"),
        ([TWO, f"{FIRST}.data.bucket_steps=1"], f"set distill.data.bucket_steps for all, or train {SECOND} in a run"),
        (
            [TWO, "distill_bert_3l.train.steps=3"],
            f"unknown option `distill_bert_3l.train.steps`; did you mean `{FIRST}",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(settings: list[str], problem: str) -> None:
    (found,) = problems(*settings)
    assert problem in found


def test_what_rows_do_not_depend_on_may_differ() -> None:
    own = [f"{FIRST}.optim.learning_rate=1e-3", f"{SECOND}.objective.hidden_weight=2", f"{SECOND}.train.steps=9"]
    assert problems(TWO, *own) == []


def test_other_jobs_name_those_that_have_the_setting() -> None:
    (found,) = problems(TWO, job="tinybert_task")
    assert found.startswith("unknown option `students`: `minilm`, `tinybert_general` have it, `tinybert_task` has not")
    assert [name for name in job_names() if find_job(name).students_of] == ["minilm", "tinybert_general"]
