"""Models stand side by side, with what distillation gained."""

from pathlib import Path

import pytest

from tests.reporting.pages import (
    ODD,
    score,
    text_of,
    write,
    write_results,
)


def test_models_stand_side_by_side(scored_run: Path) -> None:
    text = text_of(scored_run)
    for shown in (
        "Results test · 200 rows · × against the teacher",
        "Distillation gained +5.0 points over the same student without it: accuracy 0.8500 against 0.8000.",
        "teacher 0.9000 0.8900 100.0% 4 M 16.00",
        "student 0.8500 0.8400 94.4% 1 M 4.0× 4.000 4.0× 100 M 4.0× 2.000 4.0× 400.0 4.0×",
        "Accuracy and speed",
        "Measured on CPU, 2 threads",
        "Up to 3 texts are longer than a model can read",
    ):
        assert shown in text


def test_the_page_begins_with_the_result_in_one_sentence(scored_run: Path) -> None:
    sentence = (
        "The distilled student keeps 94.4% of the teacher's accuracy (0.8500 of 0.9000), is 5.0 points better than the "
        "same student without distillation, and classifies 4.0× as many texts a second."
    )
    text = text_of(scored_run)
    assert sentence in text
    assert text.index(sentence) < text.index("Quality kept")
    write_results(scored_run, score("teacher", 0.9), score("student_alone", 0.85), score("student", 0.8))
    assert "is 5.0 points worse than the same student without distillation" in text_of(scored_run)
    write_results(scored_run, score("teacher", 0.9), score("student", 0.8))
    assert "The distilled student" not in text_of(scored_run)


def test_a_student_of_soft_labels_is_compared_with_no_teacher(scored_run: Path) -> None:
    write_results(scored_run, score("student_alone", 0.8), score("student", 0.85))
    sentence = (
        "The distilled student has accuracy 0.8500, 5.0 points better than the same student without distillation."
    )
    assert sentence in text_of(scored_run)
    assert "of the teacher's" not in text_of(scored_run)


def test_seeds_become_a_mean_with_their_spread(scored_run: Path) -> None:
    rows = [score(model, 0.8 + gain) for model, gain in (("teacher", 0.1), ("student_alone", 0.0), ("student", 0.05))]
    rows += [score("student_alone", 0.82, seed=43), score("student", 0.87, seed=43)]
    write_results(scored_run, *rows)
    text = text_of(scored_run)
    assert "student 2 0.8600 ± 0.0141" in text
    assert "accuracy 0.8600 against 0.8100. That is more than the spread over 2 seeds (± 2.0 points)." in text
    write_results(scored_run, *rows[:3], score("student_alone", 0.9, seed=43), score("student", 0.87, seed=43))
    assert "That is within the spread over 2 seeds (± 7.2 points) and may be chance." in text_of(scored_run)


def test_distillation_that_hurts_is_a_warning(scored_run: Path) -> None:
    write_results(scored_run, score("teacher", 0.9), score("student_alone", 0.85), score("student", 0.8))
    text = text_of(scored_run)
    assert "Distillation hurt: the student is 5.0 points worse than the same student trained without a teacher" in text
    assert 'class="verdict open"' in (scored_run / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("metric", ["micro_f1", "spearman"])
def test_other_tasks_have_other_scores(scored_run: Path, metric: str) -> None:
    rows = [{"stage": "evaluate", "model": model, metric: 0.5} for model in ("teacher", "student_alone", "student")]
    write_results(scored_run, *rows)
    name = {"micro_f1": "micro F1", "spearman": "Spearman"}[metric]
    assert f"Distillation changed nothing: {name} 0.5000 against 0.5000." in text_of(scored_run)


def test_classes_and_the_teacher_and_onnx_are_told(scored_run: Path) -> None:
    text = text_of(scored_run)
    for shown in (
        "Confusion matrix of the student",
        f"财经 {ODD} 10 10.0%",
        "体育 0.5000 0.2500 0.3333 100",
        f"The teacher is fit to teach: accuracy 0.9000 on 150 rows, lower 95 % bound 0.8700; always answering “{ODD}”",
        "The ONNX file is right: logits differ from PyTorch's by at most 2.0e-06",
        "onnxruntime is faster 2.0×",
        f"no augmentation: {ODD}",
        "augment 1 of 3 shards",
    ):
        assert shown in text


def test_a_teacher_that_knows_nothing_is_a_warning(scored_run: Path) -> None:
    guard = {"metric": "spearman", "value": 0.1, "lower_bound": -0.1, "baseline": 0.0, "baseline_label": None}
    write(scored_run / "check" / "evaluation.json", {"guard": guard | {"rows": 50, "passed": False}})
    text = text_of(scored_run)
    assert "The teacher has nothing to teach: Spearman 0.1000 on 50 rows" in text
    assert "The run went on" in text
