"""A small gain is explained by what the run's files tell, and only then."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.pages import score, text_of, write, write_results

TITLE = "Why distillation gained little"


def run_of(folder: Path, *, teacher: float, alone: float, student: float, **stages: dict[str, Any]) -> Path:
    """A finished run; each stage is given by its settings, and by what it logged under `metrics` or `rows`."""
    write(folder / "job.json", {"name": "task", "stages": {name: stage["settings"] for name, stage in stages.items()}})
    for name, stage in stages.items():
        (folder / name).mkdir()
        if "rows" in stage:
            write(folder / name / "tokens" / "statistics.json", {"train_rows": stage["rows"]})
        lines = [json.dumps(row) for row in stage.get("metrics", [])]
        (folder / name / "metrics.jsonl").write_text("\n".join(lines) + "\n" * bool(lines), encoding="utf-8")
    write_results(folder, score("teacher", teacher), score("student_alone", alone), score("student", student))
    return folder


def losses(values: list[float], key: str = "train/loss") -> list[dict[str, float]]:
    return [{"global_step": step, key: value} for step, value in enumerate(values, start=1)]


EVALUATE = {"settings": {"kind": "evaluate"}}
STUDENT = {"kind": "train", "teacher": {"path": "T"}, "student": {"config": "small"}, "objective": {"name": "tinybert"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_nothing_is_said_where_distillation_paid(folder: Path) -> None:
    labelled = {"settings": {"kind": "labelled"}, "rows": 100}
    text = text_of(run_of(folder, teacher=0.9, alone=0.8, student=0.85, labelled=labelled, evaluate=EVALUATE))
    assert "Distillation gained" in text
    assert TITLE not in text


def test_a_teacher_that_is_no_better_is_named(folder: Path) -> None:
    text = text_of(run_of(folder, teacher=0.8, alone=0.8, student=0.79, evaluate=EVALUATE))
    assert f"{TITLE} as far as this run tells" in text
    assert "the teacher is no better than the student alone (accuracy 0.8000 against 0.8000)" in text


def test_few_rows_are_named_unless_there_is_text_without_labels(folder: Path) -> None:
    labelled = {"settings": {"kind": "labelled"}, "rows": 300}
    scores = {"teacher": 0.9, "alone": 0.8, "student": 0.8, "labelled": labelled, "evaluate": EVALUATE}
    assert "300 rows are few to show what a teacher knows: name text" in text_of(run_of(folder, **scores))


def test_text_without_labels_leaves_few_rows_unnamed(folder: Path) -> None:
    labelled = {"settings": {"kind": "labelled"}, "rows": 300}
    unlabelled = {"settings": {"kind": "unlabelled"}}
    scores = {"teacher": 0.9, "alone": 0.8, "student": 0.8, "labelled": labelled, "unlabelled": unlabelled}
    text = text_of(run_of(folder, **scores, evaluate=EVALUATE))
    assert "Nothing in this run explains it." in text


def test_few_rows_of_judged_texts_ask_for_more_of_these(folder: Path) -> None:
    labelled, judged = {"settings": {"kind": "labelled"}, "rows": 300}, {"settings": {"kind": "soft_labels"}}
    scores = {"teacher": 0.9, "alone": 0.8, "student": 0.8, "labelled": labelled, "outputs": judged}
    text = text_of(run_of(folder, **scores, evaluate=EVALUATE))
    assert "300 rows are few: have more text of the same kind judged (data.soft_labels)" in text
    assert "data.unlabelled" not in text


def test_a_loss_that_still_falls_is_named_and_one_that_has_settled_is_not(folder: Path) -> None:
    falling = {"settings": STUDENT, "metrics": losses([1 / step for step in range(1, 41)])}
    settled = {"settings": STUDENT, "metrics": losses([1.0] * 40)}
    text = text_of(
        run_of(folder, teacher=0.9, alone=0.8, student=0.8, layers=falling, distill=settled, evaluate=EVALUATE)
    )
    assert "the loss of layers fell by" in text
    assert "train it longer (layers.train.epochs)" in text
    assert "the loss of distill fell" not in text


def test_a_teacher_that_overfitted_is_named(folder: Path) -> None:
    teacher = {
        "settings": {"kind": "train", "encoder": {"path": "E"}},
        "metrics": losses([0.5, 0.4, 0.6], "evaluation/loss"),
    }
    text = text_of(run_of(folder, teacher=0.9, alone=0.8, student=0.8, finetune=teacher, evaluate=EVALUATE))
    assert "the teacher overfitted: its held-out loss ended 50.0% above its lowest" in text


def test_a_teacher_that_was_trained_too_shortly_is_named(folder: Path) -> None:
    teacher = {
        "settings": {"kind": "train", "encoder": {"path": "E"}},
        "metrics": losses([1 / step for step in range(1, 41)]),
    }
    text = text_of(run_of(folder, teacher=0.9, alone=0.8, student=0.8, finetune=teacher, evaluate=EVALUATE))
    assert "the teacher has not converged: the loss of finetune fell by" in text
