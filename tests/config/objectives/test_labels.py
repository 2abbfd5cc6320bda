"""The two methods that learn from labels or predictions: weights, tasks and names in results."""

from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective


def test_class_weights_are_for_single_labels() -> None:
    balanced = FinetuneObjective(class_weights="balanced")
    assert balanced.task_problems("single_label") == []
    assert balanced.task_problems("regression") == [
        "objective.class_weights=balanced is for data.task=single_label, but data.task=regression: set it to none"
    ]
    assert FinetuneObjective().task_problems("regression") == []


def test_a_student_without_distillation_is_called_so_in_results() -> None:
    assert [FinetuneObjective().result_name(has_student) for has_student in (True, False)] == [
        "student_alone",
        "teacher",
    ]
    assert SoftLabelsObjective().result_name(has_student=True) == "student"


def test_the_weights_of_prediction_distillation_are_its_settings() -> None:
    settings = SoftLabelsObjective(soft_weight=0.5, hard_weight=0.25, logits_weight=2)
    assert settings.weights() == {"soft": 0.5, "hard": 0.25, "logits": 2.0}
    assert settings.reads_teacher_outputs
