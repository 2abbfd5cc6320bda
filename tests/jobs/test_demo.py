"""`demo` needs no file and no model from elsewhere, and compares students that were trained for equally long."""

from kd_dist.config.jobs import find_job


def test_every_input_is_made_by_the_job_itself() -> None:
    assert [path for stage in find_job("demo").stages.values() for _, path in stage.named_paths()] == []


def test_the_student_alone_is_trained_for_as_long_as_both_stages_of_distillation() -> None:
    stages = find_job("demo").stages
    epochs = {name: stages[name].train.epochs for name in ("layers", "distill", "alone")}
    assert epochs["alone"] == epochs["layers"] + epochs["distill"]
    assert len({stages[name].train.global_batch_size for name in epochs}) == 1
