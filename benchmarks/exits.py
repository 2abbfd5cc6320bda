"""The score of models with exits at a given number of operations, for backbones that learnt in different ways.

    python benchmarks/exits.py runs/fastbert/FROZEN runs/fastbert/JOINT --output results/exits_thucnews/exits.json

Of each model that a run has calibrated, one for each seed, all branches classify the validation and the test rows,
once for each measure of uncertainty.
Exit rules are chosen on validation rows alone, as calibration chooses them: for each target the best one that saves as
many operations, and the fastest one that is as good there as the fine-tuned classifier. The file holds what they give
on test rows.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
from collections.abc import Iterator
from typing import Any

from benchmarks.measuring import write_result
from kd_dist.config.sections.evaluation import Calibrate
from kd_dist.config.stages import CalibrateStage, TrainStage
from kd_dist.config.tasks import main_metric
from kd_dist.data.examples import Examples, read_split
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import UserError, exit_with_message
from kd_dist.evaluation.calibration import (
    ROUNDING,
    BranchOutputs,
    RuleOutcome,
    candidate_rules,
    choose,
    run_branches,
    simulate,
)
from kd_dist.evaluation.operations import Operations
from kd_dist.files import read_json
from kd_dist.models.classifier import Classifier, load_classifier
from kd_dist.runs.layout import read_stage

TARGETS = (1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10)
PATIENCE = (1, 2, 3, 4)
RULES = {
    "one threshold": Calibrate(),
    "one threshold a layer": Calibrate(per_layer=True),
    "one threshold, margin": Calibrate(uncertainty="margin"),
}


def calibrated_stages(run_dir: Path) -> Iterator[Path]:
    """Yield the folder of each calibration in a run; with several seeds there are several.

    Raises:
        UserError: The folder is no run that calibrates exits.
    """
    folders = sorted(folder.parent for folder in run_dir.glob("calibration*/calibration.json"))
    if not folders:
        raise UserError(f"{run_dir} holds no calibrated exits: give the folder of a finished run of the job fastbert")
    yield from folders


def measure(stage_dir: Path) -> dict[str, Any]:
    """Measure the exit rules of one calibrated model."""
    stage: CalibrateStage = read_stage(stage_dir)
    trained: TrainStage = read_stage(Path(stage.model.path).parent)
    settings, tokens = trained.objective.model_dump(), Path(stage.data.tokens)
    classifier = load_classifier(stage.model.path).at(speed=0.0)
    examples = {split: read_split(tokens, split) for split in ("validation", "test")}
    metric = main_metric(examples["test"].task)
    teacher = _teacher(stage_dir.parent, metric)
    compared = Compared(classifier, examples, Preprocessing.load(tokens), teacher["validation"])
    return {
        "run": stage_dir.parent.name,
        "backbone": settings["backbone"],
        "seed": trained.train.seed,
        "metric": metric,
        "rows": {split: len(found.labels) for split, found in examples.items()},
        "teacher": teacher,
        "rules": {name: compared.of_rule(calibrate) for name, calibrate in RULES.items()},
        "patience": {str(patience): compared.of_patience(patience) for patience in PATIENCE},
    }


def _teacher(run_dir: Path, metric: str) -> dict[str, float]:
    """Return the scores of the classifier that was there before, by split."""
    rows = [row for row in read_json(run_dir / "results.json") if row["model"] == "teacher" and metric in row]
    return {row["split"]: row[metric] for row in rows if row["stage"] in ("check", "evaluation")}


class Compared:
    """A model's branches on validation rows, which rules are chosen on, and on test rows, which they are scored on.

    Args:
        classifier: the model with branches.
        examples: the rows of both splits.
        preprocessing: of the rows.
        floor: the score that counts as no loss.
    """

    def __init__(
        self, classifier: Classifier, examples: dict[str, Examples], preprocessing: Preprocessing, floor: float
    ) -> None:
        self._classifier, self._examples, self._preprocessing = classifier, examples, preprocessing
        self._outputs: dict[tuple[str, int], dict[str, BranchOutputs]] = {}
        self.operations, self.model, self.floor = Operations.of(classifier), classifier.model, floor

    def _run(self, settings: Calibrate) -> dict[str, BranchOutputs]:
        """Return what the branches give for each split, with the uncertainty that the settings name."""
        key = settings.uncertainty, settings.top_k
        self.model.config.update({"uncertainty": settings.uncertainty, "top_k": settings.top_k})
        if key not in self._outputs:
            self._outputs[key] = {
                split: run_branches(self._classifier, examples, self._preprocessing)
                for split, examples in self._examples.items()
            }
        return self._outputs[key]

    def of_rule(self, settings: Calibrate) -> dict[str, Any]:
        """Return what the rules give that these settings choose for each target."""
        outputs = self._run(settings)
        validation, test = outputs["validation"], outputs["test"]
        rules = candidate_rules(validation, self.model.exit_rule(0.0), settings)
        outcomes = simulate(validation, self.operations, rules)

        def shown(chosen: RuleOutcome) -> dict[str, float]:
            scored = simulate(test, self.operations, [rules[0], chosen.rule])[-1]
            return {"validation": chosen.quality, "test": scored.quality, "fewer_operations": scored.speedup}

        good = [one for one in outcomes if one.quality >= self.floor - ROUNDING]
        return {
            "all_layers": shown(outcomes[0]),
            "no_loss": shown(max(good, key=lambda one: one.speedup)) if good else None,
            "targets": {
                f"{target:g}": shown(choose(outcomes, settings.model_copy(update={"target_speedup": target})))
                for target in TARGETS
            },
        }

    def of_patience(self, patience: int) -> dict[str, float]:
        """Return what it gives to exit when so many layers in a row agree."""
        settings = Calibrate(patience=patience)
        test = self._run(settings)["test"]
        rules = candidate_rules(test, self.model.exit_rule(0.0), settings)
        scored = simulate(test, self.operations, rules)[-1]
        return {"test": scored.quality, "fewer_operations": scored.speedup}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="finished runs of the job fastbert")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the figures go, as JSON")
    arguments = parser.parse_args()
    models = [measure(folder) for run_dir in arguments.runs for folder in calibrated_stages(run_dir)]
    write_result({"models": models}, arguments.output)


if __name__ == "__main__":
    exit_with_message(main)
