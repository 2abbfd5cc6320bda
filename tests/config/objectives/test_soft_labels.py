"""Prediction distillation: its terms, and where the teacher comes from."""

from kd_dist.config.objectives.soft_labels import SoftLabelsObjective


def test_the_weights_of_prediction_distillation_are_its_settings() -> None:
    settings = SoftLabelsObjective(soft_weight=0.5, hard_weight=0.25, logits_weight=2)
    assert settings.weights() == {"soft": 0.5, "hard": 0.25, "logits": 2.0}
    assert settings.reads_teacher_outputs


def test_a_student_is_called_so_in_results() -> None:
    assert SoftLabelsObjective().result_name(has_student=True) == "student"
