"""Seeds are averaged, speeds kept apart, and every model has a look of its own."""

from typing import Any

import pytest

from kd_dist.evaluation.comparison import Comparison, group_rows, score_name, score_title


def row(model: str, accuracy: float, **more: Any) -> dict[str, Any]:
    return {"model": model, "accuracy": accuracy, "latency_ms": 10 * accuracy, **more}


def compared(*rows: dict[str, Any]) -> Comparison:
    return Comparison(*group_rows(rows), ("accuracy",))


def test_seeds_go_together_and_speeds_apart() -> None:
    models, at_speeds = group_rows(
        [row("fast", 0.8), row("fast", 0.9, seed=43), row("fast", 0.5, speed=1.0), row("fast", 0.7, speed=0.5, seed=43)]
    )
    assert models["fast"].mean("accuracy") == pytest.approx(0.85)
    assert models["fast"].spread("accuracy") == pytest.approx(0.0707, abs=1e-4)
    assert [(model.speed, model.mean("accuracy")) for model in at_speeds] == [(0.5, 0.7), (1.0, 0.5)]


def test_what_is_not_finite_does_not_count() -> None:
    model = group_rows([row("a", float("nan")), row("a", 0.5, seed=43)])[0]["a"]
    assert (model.mean("accuracy"), model.spread("accuracy"), model.mean("macro_f1")) == (0.5, None, None)


def test_ratios_are_to_the_first_model() -> None:
    found = compared(row("teacher", 0.8), row("student", 0.4))
    student = found.student()
    assert student.name == "student"
    assert found.ratio(student, "latency_ms") == pytest.approx(2.0)
    assert found.ratio(student, "accuracy", larger_is_better=True) == pytest.approx(0.5)
    assert found.ratio(student, "parameters") is None


def test_models_with_early_exit_come_with_their_speeds() -> None:
    fast = [row("fast", 0.8, mean_layers=2.0), row("fast", 0.5, speed=1.0), row("fast", 0.9, speed=0.0)]
    found = compared(row("teacher", 0.9), *fast)
    assert {name: [model.speed for model in models] for name, models in found.early_exits().items()} == {
        "fast": [None, 0.0, 1.0]
    }
    assert found.models["fast"].label() == "fast, own thresholds"
    assert found.models["teacher"].label() == "teacher"


def test_no_two_models_look_alike() -> None:
    names = ["teacher", "student_alone", "student", "fast", "faster", "fastest"]
    found = compared(*(row(name, 0.5) for name in names))
    assert len({found.look(name) for name in names}) == len(names)
    assert found.look("student_alone").hollow
    assert compared(row("fast", 0.5)).look("fast") == found.look("fast")


def test_names_of_scores() -> None:
    assert (score_name("macro_f1"), score_title("macro_f1")) == ("macro F1", "Macro F1")
    assert (score_name("accuracy"), score_title("accuracy")) == ("accuracy", "Accuracy")
    assert score_name("mean_squared_error") == "mean squared error"
