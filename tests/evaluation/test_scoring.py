"""Models are scored as they are and at every speed, and students are compared over their seeds."""

import numpy as np
import pytest

from kd_dist.data.examples import Examples
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError
from kd_dist.evaluation import scoring
from kd_dist.evaluation.model_key import ModelKey
from kd_dist.evaluation.scoring import at_speeds, distillation_hurts, own_preprocessings, score_all, size_mb
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


def test_scores_do_not_depend_on_how_many_logits_are_in_memory(fast, monkeypatch) -> None:
    classifiers = {FAST: load_classifier(fast).at(0.5)}
    texts, names = (
        [f"第{number}条新闻" * (1 + number % 3) for number in range(80)],
        list(classifiers[FAST].label2id)[::-1],
    )
    label2id = {name: number for number, name in enumerate(names)}
    examples = Examples("test", "single_label", label2id, texts, None, np.arange(80) % len(names))
    preprocessings = own_preprocessings(classifiers, Preprocessing(16))
    together = score_all(classifiers, preprocessings, examples, speed=False)[FAST]
    monkeypatch.setattr(scoring, "MOST_LOGITS", 1)  # as many rows as a batch has
    apart = score_all(classifiers, preprocessings, examples, speed=False)[FAST]
    assert apart.row == together.row
    assert apart.predicted.values.tolist() == together.predicted.values.tolist()
    assert apart.predicted.probabilities == pytest.approx(together.predicted.probabilities, abs=1e-5)
    assert apart.layers_N.tolist() == together.layers_N.tolist()


def test_all_predictions_that_are_not_finite_are_counted(teacher, monkeypatch) -> None:
    classifier = load_classifier(teacher)
    classifier.model.classifier.bias.data[0] = float("nan")
    examples = Examples("test", "single_label", classifier.label2id, ["一"] * 80, None, np.zeros(80, int))
    monkeypatch.setattr(scoring, "MOST_LOGITS", 1)
    with pytest.raises(RunError, match="80 of 80 predictions are not finite"):
        score_all(
            {PLAIN: classifier}, own_preprocessings({PLAIN: classifier}, Preprocessing(16)), examples, speed=False
        )


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
