"""The rows of stages are those that the stages make."""

import json
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.sections.data import CorpusData, LabelledData
from kd_dist.data.labelled import prepare
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.errors import UserError
from kd_dist.planning.checks import load_checked_job
from kd_dist.planning.rows import RowCounts, rows_given
from kd_dist.planning.text_rows import corpus_rows, labelled_rows
from tests.conftest import LabelledWorld, TinyWorld


def task_job(labelled: LabelledWorld, *settings: str) -> Job:
    files = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    own = [f"teacher.path={labelled.teacher}", f"student.config={labelled.student}", "data.max_length=48"]
    return load_checked_job("tinybert_task", [*files, *own, *settings])


def test_labelled_files_are_counted_and_measured(labelled: LabelledWorld) -> None:
    rows = RowCounts(task_job(labelled), {}).of("labelled")
    made = PreparedRows(labelled.tokens)
    assert rows is not None
    assert [made.num_rows(split) for split in ("train", "validation", "test")] == [
        rows.train,
        rows.validation,
        rows.test,
    ]
    assert list(rows.lengths) == sorted(made.lengths("train").tolist())


@pytest.mark.parametrize("settings", [{}, {"validation_fraction": 0.3}, {"max_rows": 20}])
@pytest.mark.parametrize("given", [["train"], ["train", "validation"], ["train", "test"]])
def test_splits_are_as_large_as_those_that_are_made(
    given: list[str], settings: dict, labelled: LabelledWorld, tiny: TinyWorld, tmp_path: Path
) -> None:
    files = {split: [str(labelled.files / f"{split}.tsv")] for split in given}
    data = LabelledData(**files, **settings)
    rows = labelled_rows(data, str(tiny.tokenizer))
    report = prepare(data, str(tiny.tokenizer), tmp_path / "tokens", tmp_path / "texts.txt")
    assert (rows.train, rows.validation, rows.test) == tuple(report[s]["rows"] for s in ("train", "validation", "test"))


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "classes"])
def test_rows_are_counted_whatever_the_files_are(name: str, tmp_path: Path) -> None:
    records = [{"label": f"l{number % 2}", "text": "今天" * (1 + number % 4)} for number in range(40)]
    if name == "classes":
        for number, record in enumerate(records):
            (tmp_path / name / record["label"]).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / record["label"] / f"{number}.txt").write_text(record["text"], encoding="utf-8")
    else:
        lines = "\n".join(map(json.dumps, records))
        (tmp_path / name).write_text(json.dumps(records) if name == "rows.json" else lines, encoding="utf-8")
    rows = labelled_rows(LabelledData(train=[str(tmp_path / name)]), None)
    assert (rows.train, rows.validation, rows.test, set(rows.lengths)) == (32, 4, 4, {4, 6, 8, 10})


def test_a_corpus_is_packed_on_a_sample(tiny: TinyWorld) -> None:
    data = CorpusData(corpus=[str(tiny.corpus)], max_length=48, validation_fraction=0.05)
    rows, made = corpus_rows(data, str(tiny.tokenizer)), PreparedRows(tiny.tokens)
    assert rows.train == pytest.approx(made.num_rows("train"), rel=0.02)
    assert rows.mean_length() == pytest.approx(made.lengths("train").mean(), rel=0.02)
    half = corpus_rows(data.model_copy(update={"max_lines": 280}), str(tiny.tokenizer))
    assert half.train == pytest.approx(rows.train / 2, rel=0.2)


def test_rows_that_follow_from_others_are_computed(labelled: LabelledWorld, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("今天天气\n" * 50, encoding="utf-8")
    job = task_job(labelled, f"data.unlabelled={tmp_path / 'more.txt'}", "perturb.copies=3", "perturb.max_rows=100")
    counts = RowCounts(job, {})
    assert counts.unknown() == []
    assert {name: counts.of(name).train for name in counts.makers()} == {
        "labelled": 60,
        "unlabelled": 50,
        "perturbed": 100,
    }
    assert counts.read_by(job.stages["distill"]).train == 210
    assert (counts.read_by(job.stages["distill"]).validation, counts.read_by(job.stages["alone"]).train) == (24, 60)


def test_augmented_rows_are_the_old_ones_and_the_copies(labelled: LabelledWorld) -> None:
    files = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    job = load_checked_job("tinybert", [*files, "encoder.path=hfl/on-the-hub", "augment.copies=5", "perturb.copies=0"])
    counts = RowCounts(job, {})
    assert (counts.of("augmentation").train, counts.of("augmented").train) == (300, 360)
    assert counts.of("augmented").validation == 24


def test_sample_texts_are_known_before_they_are_written() -> None:
    counts = RowCounts(load_checked_job("demo", []), {})
    assert (counts.of("labelled").train, counts.of("unlabelled").train) == (1000, 10_000)


def test_rows_that_nobody_can_know_are_asked_for_by_the_stage_that_makes_them() -> None:
    job = load_checked_job("tinybert_general", [], plan_only=True)
    assert RowCounts(job, {}).unknown() == ["corpus"]
    given = RowCounts(job, {"corpus": 5000})
    assert (given.unknown(), given.of("corpus").train, given.of("corpus").lengths) == ([], 5000, (128,))


def test_rows_that_are_given_count_more_than_files(labelled: LabelledWorld) -> None:
    counts = RowCounts(task_job(labelled), {"labelled": 1000})
    assert (counts.of("labelled").train, counts.of("labelled").validation, len(counts.of("labelled").lengths)) == (
        1000,
        24,
        60,
    )
    assert counts.of("perturbed").train == 8000


def test_judgements_of_ids_are_as_long_as_the_texts(labelled: LabelledWorld, tmp_path: Path) -> None:
    judged = "".join(json.dumps({"id": number, "sport": 1}) + "\n" for number in range(30))
    (tmp_path / "judged.jsonl").write_text(judged, encoding="utf-8")
    texts = "".join(json.dumps({"id": number, "text": "今" * 10}) + "\n" for number in range(50))
    (tmp_path / "texts.jsonl").write_text(texts, encoding="utf-8")
    settings = [f"data.soft_labels={tmp_path / 'judged.jsonl'}", f"data.id_texts={tmp_path / 'texts.jsonl'}"]
    settings += [f"data.train={labelled.files / 'train.tsv'}", f"donor.path={labelled.teacher}", "data.id_field=id"]
    job = load_checked_job("soft_labels", [*settings, f"student.config={labelled.student}", "data.max_length=48"])
    rows = RowCounts(job, {}).of("outputs")
    assert rows is not None
    assert (rows.train, set(rows.lengths), rows.characters) == (30, {12}, 300)


def test_prepared_rows_are_read(labelled: LabelledWorld) -> None:
    job = load_checked_job(
        "tinybert_general",
        [
            f"teacher.path={labelled.teacher}",
            f"distill.data.tokens={labelled.tokens}",
            f"student.config={labelled.student}",
        ],
        plan_only=True,
    )
    rows = RowCounts(job, {}).read_by(job.stages["distill"])
    assert (rows.train, rows.validation, len(rows.lengths)) == (60, 24, 60)


def test_rows_are_given_by_the_names_of_stages() -> None:
    assert rows_given(["corpus=1_000", "labelled=3"], ["corpus", "labelled"]) == {"corpus": 1000, "labelled": 3}
    for text in ("corpos=3", "corpus", "corpus=many", "corpus=-1"):
        with pytest.raises(UserError, match=f"--rows {text}: expected STAGE=N, .* one of corpus, labelled"):
            rows_given([text], ["corpus", "labelled"])
