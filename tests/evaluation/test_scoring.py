"""Models are scored as they are and at every speed, and students are compared over their seeds."""

from kd_dist.evaluation.model_key import ModelKey
from kd_dist.evaluation.scoring import at_speeds, distillation_hurts, size_mb
from kd_dist.models.classifier import load_classifier

PLAIN, FAST = ModelKey("teacher"), ModelKey("fast", seed=43)


def test_only_models_with_branches_have_speeds(teacher, fast) -> None:
    models = {PLAIN: load_classifier(teacher), FAST: load_classifier(fast)}
    found = at_speeds(models, [0, 0.5])
    assert list(found) == [PLAIN, FAST, ModelKey("fast", 43, 0), ModelKey("fast", 43, 0.5)]
    assert found[FAST].exit_rule == models[FAST].exit_rule
    assert found[ModelKey("fast", 43, 0.5)].exit_rule.thresholds == (0.5, 0.5, 0.5)
    assert list(at_speeds(models, [])) == [PLAIN, FAST]


def test_the_plain_model_stands_before_one_with_branches(fast) -> None:
    first, second, *_ = at_speeds({FAST: load_classifier(fast)}, [0.5]).items()
    assert (first[0], second[0]) == (ModelKey("all layers"), FAST)
    assert first[1].exit_rule is None
    assert first[1].model is second[1].model.backbone


def test_distillation_that_hurts() -> None:
    def hurts(accuracies: dict[ModelKey, float]) -> bool | None:
        return distillation_hurts({key: {"accuracy": value} for key, value in accuracies.items()}, "accuracy")

    rows = {PLAIN: 0.9, ModelKey("student"): 0.8, ModelKey("student", 2): 0.7}
    rows |= {ModelKey("student_alone"): 0.76, ModelKey("student_alone", 2): 0.76}
    assert hurts(rows)
    rows |= {ModelKey("student", 2): 0.75, ModelKey("student", speed=1.0): 0.1}
    assert hurts(rows) is False
    assert hurts({PLAIN: 1.0, ModelKey("student"): 1.0}) is None


def test_size_is_that_of_the_weights_alone(tmp_path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(2_500_000))
    (tmp_path / "tokenizer.json").write_bytes(bytes(1_000_000))
    assert size_mb(tmp_path) == 2.5
