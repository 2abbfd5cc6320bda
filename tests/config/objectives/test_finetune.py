"""Training on labels: class weights, and the name of the model in results."""

from kd_dist.config.objectives.finetune import FinetuneObjective


def test_class_weights_are_for_single_labels() -> None:
    balanced = FinetuneObjective(class_weights="balanced")
    assert balanced.task_problems("single_label") == []
    assert balanced.task_problems("regression") == [
        "objective.class_weights=balanced is for data.task=single_label, but data.task=regression: set it to none"
    ]
    assert FinetuneObjective().task_problems("regression") == []


def test_a_student_without_distillation_is_called_so_in_results() -> None:
    names = [FinetuneObjective().result_name(has_student) for has_student in (True, False)]
    assert names == ["student_alone", "teacher"]
