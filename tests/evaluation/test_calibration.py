"""Thresholds keep their promise on the rows they were found on, and what is simulated is what happens."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kd_dist.config.sections.data import PlainTokenData
from kd_dist.config.sections.evaluation import Calibrate
from kd_dist.config.sections.models import Model as ModelSettings
from kd_dist.config.stages import CalibrateStage
from kd_dist.data.cleaning import clean
from kd_dist.data.examples import Examples, read_split
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError, UserError
from kd_dist.evaluation.calibration import (
    BranchOutputs,
    RuleOutcome,
    candidate_rules,
    choose,
    run_branches,
    simulate,
    trusted_thresholds,
)
from kd_dist.evaluation.operations import Operations
from kd_dist.files import write_json
from kd_dist.models.classifier import Classifier, load_classifier, predict
from kd_dist.models.exit_rules import ExitRule
from tests.evaluation.labelled_tokens import LABEL2ID, write_tokens
from tests.evaluation.whole_scores import scores
from tests.models.random_models import LABELS, NUM_LAYERS, save_classifier, save_fastbert
from tests.stages import run_entry

TASKS: list[Any] = ["single_label", "multi_label"]


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """By task: a model with branches, and tokens whose labels are what its last layer says, but for every fifth."""
    root = tmp_path_factory.mktemp("calibration")
    lines = map(clean, tiny.corpus.read_text(encoding="utf-8").split("\n"))
    texts = [line[: 4 + number % 20] for number, line in enumerate(line for line in lines if len(line) > 24)][:80]
    found = {}
    for task in TASKS:
        settings = {"problem_type": "multi_label_classification"} if task == "multi_label" else {}
        model = save_fastbert(root / task, tiny.tokenizer, texts, **settings)
        classifier = load_classifier(model).at(speed=0.0)
        rows = Preprocessing.load(model).encode(classifier.tokenizer, texts, None)
        logits_NC = predict(classifier, rows).logits_NC.numpy()
        labels = (logits_NC > 0).astype(float) if task == "multi_label" else logits_NC.argmax(axis=1)
        labels[::5] = 1 - labels[::5] if task == "multi_label" else (labels[::5] + 1) % 3
        tokens = write_tokens(root / f"{task}_tokens", texts, labels.tolist(), task=task, label2id=LABEL2ID, test=0)
        found[task] = model, tokens
    return found


class World:
    def __init__(self, model: Path, tokens: Path) -> None:
        self.model, self.tokens = model, tokens
        self.classifier: Classifier = load_classifier(model).at(speed=0.0)
        self.examples: Examples = read_split(tokens, "validation")
        self.outputs: BranchOutputs = run_branches(self.classifier, self.examples, Preprocessing.load(tokens))
        self.operations = Operations.of(self.classifier)

    def outcomes(self, **settings: Any) -> Any:
        never = self.classifier.model.exit_rule(0.0)
        return simulate(self.outputs, self.operations, candidate_rules(self.outputs, never, Calibrate(**settings)))

    def really(self, rule: Any) -> tuple[dict[str, float], np.ndarray]:
        """Scores and exit layers of the model itself under a rule."""
        classifier = replace(self.classifier, exit_rule=rule)
        rows = Preprocessing.load(self.model).encode(classifier.tokenizer, self.examples.texts, None)
        output = predict(classifier, rows, batch_size=7)
        assert output.layers_N is not None
        found = scores(self.examples.task, output.logits_NC.numpy(), self.examples.labels)
        return found, output.layers_N.numpy()


@pytest.fixture(scope="module")
def worlds(folders: dict[str, tuple[Path, Path]]) -> dict[str, World]:
    return {task: World(*paths) for task, paths in folders.items()}


@pytest.mark.parametrize("settings", [{}, {"per_layer": True}, {"patience": 2}])
@pytest.mark.parametrize("task", TASKS)
def test_what_is_simulated_is_what_happens(task: Any, settings: dict[str, Any], worlds: dict[str, World]) -> None:
    world = worlds[task]
    outcomes = world.outcomes(**settings)
    metric = {"single_label": "accuracy", "multi_label": "micro_f1"}[task]
    chosen = outcomes[:: max(1, len(outcomes) // 8)]
    assert len({outcome.mean_layers for outcome in chosen}) > 1
    for outcome in chosen:
        found, layers_N = world.really(outcome.rule)
        assert found[metric] == pytest.approx(outcome.quality)
        assert layers_N.mean() == pytest.approx(outcome.mean_layers)


def test_operations_saved_are_those_of_the_exits(worlds: dict[str, World]) -> None:
    world = worlds["single_label"]
    outcome = world.outcomes()[100]
    _, layers_N = world.really(outcome.rule)
    lengths_N = world.outputs.lengths_N
    never = replace(outcome.rule, thresholds=(0.0,) * (NUM_LAYERS - 1))
    full = world.operations.per_row(lengths_N, np.full(len(lengths_N), NUM_LAYERS), never).sum()
    assert outcome.speedup == pytest.approx(full / world.operations.per_row(lengths_N, layers_N, outcome.rule).sum())


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("budget", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("task", TASKS)
def test_the_fastest_within_the_budget_is_taken(
    task: Any, budget: float, per_layer: bool, worlds: dict[str, World]
) -> None:
    outcomes = worlds[task].outcomes(per_layer=per_layer)
    chosen = choose(outcomes, Calibrate(quality_budget=budget, per_layer=per_layer))
    assert outcomes[0].mean_layers == NUM_LAYERS
    assert chosen.quality >= outcomes[0].quality - budget
    for other in outcomes:
        assert other.speedup <= chosen.speedup or other.quality < outcomes[0].quality - budget


def test_losing_just_the_budget_is_within_it() -> None:
    """Six of 1,200 rows are half a point, whatever the shares round to."""
    never = ExitRule((0.0,), "entropy", 5)
    for right in range(6, 1201):
        outcomes = [RuleOutcome(never, right / 1200, 1.0, 2.0), RuleOutcome(never, (right - 6) / 1200, 2.0, 1.0)]
        assert choose(outcomes, Calibrate(quality_budget=0.005)) is outcomes[1]
        assert choose(outcomes, Calibrate(quality_budget=0.0049)) is outcomes[0]


def test_more_budget_is_never_slower(worlds: dict[str, World]) -> None:
    outcomes = worlds["single_label"].outcomes()
    speedups = [choose(outcomes, Calibrate(quality_budget=budget)).speedup for budget in (0, 0.02, 0.1, 0.5, 0.99)]
    assert speedups == sorted(speedups)
    assert speedups[0] < speedups[-1] == max(outcome.speedup for outcome in outcomes)


def test_the_best_that_is_as_fast_as_asked_is_taken(worlds: dict[str, World]) -> None:
    outcomes = worlds["single_label"].outcomes()
    chosen = choose(outcomes, Calibrate(target_speedup=1.5))
    assert chosen.speedup >= 1.5
    assert chosen.quality == max(outcome.quality for outcome in outcomes if outcome.speedup >= 1.5)
    with pytest.raises(RunError, match=r"target_speedup=50 cannot be reached: .* saves \d\.\d\dx of the operations"):
        choose(outcomes, Calibrate(target_speedup=50))


def test_the_fastest_candidate_leaves_at_the_first_layer(worlds: dict[str, World]) -> None:
    assert min(outcome.mean_layers for outcome in worlds["single_label"].outcomes()) == 1


def test_a_trusted_threshold_is_the_largest_that_agrees_with_the_last_layer() -> None:
    """By hand: four rows, of which the third most certain is wrong."""
    uncertainties = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    predicted = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1]])
    outputs = BranchOutputs("single_label", predicted, uncertainties, np.ones(4), np.zeros(4))
    assert trusted_thresholds(outputs, 1.0) == pytest.approx((0.25,))
    assert trusted_thresholds(outputs, 0.75) == pytest.approx((0.7,))
    assert trusted_thresholds(replace(outputs, predicted=predicted.flip(1)), 1.0) == pytest.approx((0.15,))
    tied = replace(outputs, uncertainty_EN=np.full((1, 4), 0.3, np.float32))
    assert trusted_thresholds(tied, 1.0) == (0.0,)  # none can leave without the wrong one
    assert trusted_thresholds(tied, 0.75) == pytest.approx((0.65,))


def calibrated(folder: Path, model: Path, tokens: Path, **settings: Any) -> Path:
    stage = CalibrateStage(
        model=ModelSettings(path=str(model)),
        data=PlainTokenData(tokens=str(tokens)),
        calibrate=Calibrate(**settings),
    )
    folder.mkdir(parents=True)
    write_json(folder / "config.json", stage.model_dump())
    run_entry(folder)
    return folder


def config_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "config.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "settings",
    [
        {"quality_budget": 0.1},
        {"quality_budget": 0.1, "uncertainty": "margin", "per_layer": True},
        {"target_speedup": 1.2, "uncertainty": "top_k_entropy", "top_k": 2},
        {"patience": 2},
    ],
)
def test_the_export_is_the_model_with_its_thresholds(settings: dict[str, Any], folders, tmp_path, capsys) -> None:
    model, tokens = folders["single_label"]
    stage_dir = calibrated(tmp_path / "run" / "calibration", model, tokens, **settings)
    export, report = stage_dir / "export", json.loads((stage_dir / "calibration.json").read_text(encoding="utf-8"))
    config, before = config_of(export), config_of(model)
    changed = {key for key in config if config[key] != before.get(key)}
    assert changed <= {"thresholds", "patience", "uncertainty", "top_k"}
    assert config["thresholds"] == report["chosen"]["rule"]["thresholds"]
    assert (config["patience"], len(config["thresholds"])) == (settings.get("patience"), NUM_LAYERS - 1)
    ours = {"config.json", "manifest.json"}
    assert {path.name for path in export.iterdir()} == {path.name for path in model.iterdir()} | ours
    assert all(
        path.read_bytes() == (export / path.name).read_bytes() for path in model.iterdir() if path.name not in ours
    )
    manifest = json.loads((export / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["stage"] == "calibration"
    assert manifest["calibration"]["chosen"] == report["chosen"]

    world = World(export, tokens)
    rule = load_classifier(export).exit_rule
    assert rule.measure == settings.get("uncertainty", "entropy")
    found, layers_N = world.really(rule)
    assert found["accuracy"] == pytest.approx(report["chosen"]["quality"])
    assert layers_N.mean() == pytest.approx(report["chosen"]["mean_layers"])
    assert f"accuracy {report['chosen']['quality']:.4f}" in capsys.readouterr().out


def test_several_labels_are_calibrated_too(folders, tmp_path) -> None:
    stage_dir = calibrated(tmp_path / "run" / "calibration", *folders["multi_label"], quality_budget=0.1)
    report = json.loads((stage_dir / "calibration.json").read_text(encoding="utf-8"))
    assert report["metric"] == "micro_f1"
    assert report["chosen"]["quality"] >= report["outcomes"][0]["quality"] - 0.1


def test_a_calibrated_model_can_be_calibrated_anew(folders, tmp_path) -> None:
    model, tokens = folders["single_label"]
    first = calibrated(tmp_path / "run" / "first", model, tokens, patience=1)
    second = calibrated(tmp_path / "run" / "second", first / "export", tokens, quality_budget=0.1)
    fresh = calibrated(tmp_path / "run" / "fresh", model, tokens, quality_budget=0.1)
    assert config_of(second / "export") == config_of(fresh / "export")


def test_labels_in_another_order_are_matched_by_name(folders, tmp_path) -> None:
    model, tokens = folders["single_label"]
    examples = read_split(tokens, "validation")
    turned = {name: 2 - number for name, number in LABEL2ID.items()}
    other = write_tokens(tmp_path / "tokens", examples.texts, (2 - examples.labels).tolist(), label2id=turned, test=0)
    reports = [
        json.loads((calibrated(tmp_path / name, model, data) / "calibration.json").read_text(encoding="utf-8"))
        for name, data in (("same", tokens), ("turned", other))
    ]
    first, second = ([outcome["quality"] for outcome in report["outcomes"]] for report in reports)
    assert first == second
    assert reports[0]["chosen"]["rule"]["thresholds"] == pytest.approx(reports[1]["chosen"]["rule"]["thresholds"])


def test_mistakes(tiny, folders, tmp_path) -> None:
    model, tokens = folders["single_label"]
    plain = save_classifier(tmp_path / "plain", tiny.tokenizer)
    with pytest.raises(UserError, match="plain has no branches to exit early by"):
        calibrated(tmp_path / "no_branches", plain, tokens)
    foreign = write_tokens(tmp_path / "tokens", ["一"], [0], label2id={"a": 0, "b": 1}, test=0)
    with pytest.raises(UserError, match=f"the data does not have {LABELS[0]!r}"):
        calibrated(tmp_path / "labels", model, foreign)
    with pytest.raises(RunError, match="target_speedup=50 cannot be reached"):
        calibrated(tmp_path / "too_fast", model, tokens, target_speedup=50)
    assert not (tmp_path / "too_fast" / "export").exists()
